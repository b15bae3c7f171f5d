package invitation

import (
	"context"
)

// Document is where a batch stands and what it waits for, as status --json and
// the API tell it.
type Document struct {
	*Report
	Plan     *Plan     `json:"plan"`     // of what is left; nil when nothing is sent
	Frozen   []Freeze  `json:"frozen"`   // the limits that a 429 closed
	Ceilings []Ceiling `json:"ceilings"` // always empty

	// The live workers where they were given different limits; the strictest count.
	Differing []WorkerLimits `json:"differing_limits"`
}

// Document says where a batch stands, or [ErrNoBatch]; limits are those of its
// instance's environment. The budget is that of the batch's instance.
func (r *Reader) Document(ctx context.Context, batch int64, limits func(environment string) Limits) (*Document, Budget, error) {
	report, err := r.Report(ctx, batch)
	if err != nil {
		return nil, Budget{}, err
	}
	budget, err := r.Budget(ctx, report.InstanceID, limits(report.Environment))
	if err != nil {
		return nil, budget, err
	}
	d := &Document{Report: report, Frozen: budget.Frozen, Ceilings: []Ceiling{}, Differing: budget.Differing()}
	if report.State != Running || report.Undecided == 0 {
		return d, budget, nil
	}
	loads, err := r.Loads(ctx, report.InstanceID)
	if err != nil {
		return nil, budget, err
	}
	plan := PlanLeft(batch, loads, budget)
	eta := budget.Now.Add(plan.Lasts()).UTC()
	d.Plan, report.ETA = &plan, &eta
	return d, budget, nil
}

// PlanLeft plans what is left of one of the batches that wait, by the budget,
// what it has spent, and who comes first.
func PlanLeft(batch int64, loads []Load, budget Budget) Plan {
	var own Load
	var others []Load
	for _, l := range loads {
		if l.Batch == batch {
			own = l
		} else {
			others = append(others, l)
		}
	}
	return MakePlan(budget.Now, own, others, budget.Limits.Create, budget.Limits.Bulk, budget.Spent)
}

package report

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"bulkinvite/internal/invitation"
)

// Document is the state of a batch and what it waits for, as status --json and the API return it.
type Document struct {
	*Report
	Plan     *invitation.Plan `json:"plan"`     // for the undecided rows; nil if nothing is sent
	Frozen   []Freeze         `json:"frozen"`   // the limits that a 429 froze
	Ceilings []Ceiling        `json:"ceilings"` // always empty

	// Differing has all live workers if they were given different limits. The strictest limits
	// apply.
	Differing []WorkerLimits `json:"differing_limits"`
}

// ReadDocument returns the state of a batch and the budget of its instance. limits returns the caller's
// limits for an environment. It fails with [invitation.ErrNoBatch] if the batch does not exist.
func ReadDocument(ctx context.Context, pool *pgxpool.Pool, batch int64, limits func(environment string) invitation.Limits) (*Document, Budget, error) {
	report, err := ReadReport(ctx, pool, batch)
	if err != nil {
		return nil, Budget{}, err
	}
	budget, err := ReadBudget(ctx, pool, report.InstanceID, limits(report.Environment))
	if err != nil {
		return nil, budget, err
	}
	d := &Document{Report: report, Frozen: budget.Frozen, Ceilings: []Ceiling{}, Differing: budget.Differing()}
	if report.State != invitation.Running || report.Undecided == 0 {
		return d, budget, nil
	}
	loads, err := Loads(ctx, pool, report.InstanceID)
	if err != nil {
		return nil, budget, err
	}
	plan := PlanLeft(batch, loads, budget)
	eta := budget.Now.Add(plan.Lasts()).UTC()
	d.Plan, report.ETA = &plan, &eta
	return d, budget, nil
}

// PlanLeft plans the undecided people of one of the batches in loads. budget says which limits
// apply and what counts against them, and the other loads compete for it.
func PlanLeft(batch int64, loads []invitation.Load, budget Budget) invitation.Plan {
	var own invitation.Load
	var others []invitation.Load
	for _, l := range loads {
		if l.Batch == batch {
			own = l
		} else {
			others = append(others, l)
		}
	}
	return invitation.MakePlan(budget.Now, own, others, budget.Limits.Create, budget.Limits.Bulk, budget.Spent)
}

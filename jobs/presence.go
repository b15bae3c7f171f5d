package jobs

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/invitation"
	"bulkinvite/internal/ledger"
)

// measured is what this process has measured that decisions depend on.
type measured struct {
	heard atomic.Pointer[time.Time] // when it first registered; see [ledger.Rules]
	skew  skew                      // between PostgreSQL's clock and Clerk's
}

// rules returns the parameters of decisions.
func (m *measured) rules(c Config) ledger.Rules {
	least, most := m.skew.bounds()
	r := ledger.Rules{Settle: c.Settle, GiveUp: giveUp, Fresh: c.fresh, Slack: most, Least: least,
		NamesNobody: clerk.NamesNobody}
	if heard := m.heard.Load(); heard != nil {
		r.Heard = *heard
	}
	return r
}

// presence keeps this process registered. Only a registered process may claim.
type presence struct {
	*process
	measured *measured
}

// info describes this process for the workers table.
func (p *presence) info() ledger.WorkerInfo {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return ledger.WorkerInfo{ID: p.id, InstanceID: p.cfg.Instance.ID, Host: host, PID: os.Getpid(),
		Version: p.cfg.Version, Lives: p.cfg.RecoverAfter,
		Limits: invitation.Limits{Create: p.cfg.Create, Bulk: p.cfg.Bulk, General: p.cfg.General}}
}

// attend registers this process as alive, so that it may claim, until leave is called.
func (p *presence) attend(ctx context.Context) (leave func(), err error) {
	if err := p.register(ctx); err != nil {
		return nil, err
	}
	if _, err := ledger.Reap(ctx, p.pool, p.cfg.Instance.ID, p.cfg.RecoverAfter); err != nil {
		return nil, err
	}
	return func() {
		within, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := ledger.Leave(within, p.pool, p.id); err != nil {
			p.log.Warn("sign off", "error", err)
		}
	}, nil
}

// register records a heartbeat. It registers the process again if it was declared dead.
func (p *presence) register(ctx context.Context) error {
	since, err := ledger.Beat(ctx, p.pool, p.info())
	if err == nil {
		p.measured.heard.CompareAndSwap(nil, &since)
	}
	return err
}

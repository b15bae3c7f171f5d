package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkinvite/internal/expect"
)

// TestVigil has a database away for a while, or for good.
func TestVigil(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		patience time.Duration
		from, to time.Duration // away
		gaveUp   time.Duration // zero: never
		lines    int           // about
	}{
		{name: "always there", patience: databasePatience},
		{name: "away for ten minutes", patience: databasePatience, from: time.Minute, to: 11 * time.Minute, lines: 60},
		{name: "gone", patience: databasePatience, from: time.Minute, to: time.Hour, gaveUp: 16 * time.Minute, lines: 90},
		{name: "the private one is gone", patience: 20 * time.Second, from: time.Minute, to: time.Hour, gaveUp: 80 * time.Second, lines: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var said bytes.Buffer
				began := time.Now()
				v := &vigil{ping: func(context.Context) error {
					if at := time.Since(began); at >= tt.from && at < tt.to {
						return errors.New("connection refused")
					}
					return nil
				}, patience: tt.patience, log: slog.New(slog.NewTextHandler(&said, nil))}
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
				defer cancel()
				worker := v.listen().With("worker", "w")
				go func() {
					tick := time.NewTicker(1700 * time.Millisecond)
					defer tick.Stop()
					for {
						select {
						case <-ctx.Done():
							return
						case <-tick.C:
						}
						if at := time.Since(began); at >= tt.from && at < tt.to {
							worker.Error("write to the ledger", "error", "refused")
							worker.Warn("Clerk answered 429", "bucket", "create")
						}
					}
				}()
				err := v.watch(ctx)
				took := time.Since(began)
				cancel()
				synctest.Wait() // for the worker's last word
				if tt.gaveUp == 0 && err != nil {
					t.Fatalf("gave up after %s: %v", took, err)
				}
				if tt.gaveUp != 0 && (err == nil || took < tt.gaveUp || took > tt.gaveUp+10*time.Second) {
					t.Fatalf("ended after %s with %v, want to give up after %s", took, err, tt.gaveUp)
				}
				v.listen().Warn("after the end")
				if text := said.String(); strings.Contains(text, "ledger") || !strings.Contains(text, "after the end") {
					t.Errorf("complaints are repeated, or lost after the end:\n%s", text)
				}
				frozen := strings.Count(said.String(), "Clerk answered 429")
				if frozen == 0 && tt.lines > 0 {
					t.Errorf("what is said once is lost:\n%s", said.String())
				}
				if n := strings.Count(said.String(), "\n") - 1 - frozen; n < tt.lines-1 || n > tt.lines+1 {
					t.Errorf("%d lines, want %d:\n%s", n, tt.lines, said.String())
				}
			})
		})
	}
}

// TestVigilPassesComplaintsOn: what has nothing to do with the database is said.
func TestVigilPassesComplaintsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		v := &vigil{ping: func(context.Context) error { return nil }, patience: time.Minute, log: slog.New(slog.NewTextHandler(&said, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.watch(ctx) }()
		v.listen().With("worker", "w").Warn("reading Clerk fails", "error", "refused")
		synctest.Wait()
		cancel()
		expect.OK(t, <-ended)
		expect.Text(t, said.String(), `msg="reading Clerk fails" worker=w error=refused`)
	})
}

// TestVigilHoldsNobodyUp: a complaint returns at once while the database does not answer, because
// the worker may hold a transaction open meanwhile.
func TestVigilHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := &vigil{ping: func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}, patience: time.Minute, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- v.watch(ctx) }()
		for range 10 {
			began := time.Now()
			v.listen().Warn("reading Clerk fails", "error", "refused")
			expect.Equal(t, "the wait of a complaint", time.Since(began), 0)
			time.Sleep(700 * time.Millisecond)
		}
		cancel()
		expect.OK(t, <-ended)
	})
}

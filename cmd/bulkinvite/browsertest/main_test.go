// Package browsertest opens the pages of `bulkinvite serve` in Chromium and does
// with them what people do: the program is a process of its own, on a database
// of its own, and the sandbox stands in for Clerk.
//
//	go test ./cmd/bulkinvite/browsertest            all of it
//	go test ./cmd/bulkinvite/browsertest -update    take the pictures in docs/pages anew
package browsertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"bulkinvite/internal/postgres/postgrestest"
	"bulkinvite/internal/rig"
)

var update = flag.Bool("update", false, "take the pictures in docs/pages anew")

func TestMain(m *testing.M) { postgrestest.Main(m, shared.close) }

// patience is how long anything may take on a machine that is busy with other
// things.
const patience = time.Minute

// shared is what all tests use, made by the first that needs it: the program,
// built once, and one browser, in which each test has a session of its own.
var shared stage

type stage struct {
	once    sync.Once
	err     error
	dir     string
	binary  string
	browser context.Context
}

func (s *stage) open() error {
	s.once.Do(func() {
		if s.dir, s.err = os.MkdirTemp("", "bulkinvite-browser-"); s.err != nil {
			return
		}
		s.binary = filepath.Join(s.dir, "bulkinvite")
		if s.err = rig.Build(context.Background(), s.binary, ""); s.err != nil {
			return
		}
		s.err = s.launch()
	})
	return s.err
}

// launch starts Chromium, in a directory of its own that goes with it.
func (s *stage) launch() error {
	allocator, _ := chromedp.NewExecAllocator(context.Background(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, // it opens our own pages alone, and as root there is no other way
		chromedp.DisableGPU,
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-lcd-text", true), // pictures look the same everywhere
		chromedp.Flag("hide-scrollbars", true),
		chromedp.WSURLReadTimeout(patience),
	)...)
	ctx, _ := chromedp.NewContext(allocator)
	err := chromedp.Do(ctx)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("these tests need Chromium: apt-get install chromium (%w)", err)
	}
	if err != nil {
		return fmt.Errorf("start Chromium: %w", err)
	}
	s.browser = ctx
	return nil
}

func (s *stage) close() error {
	var err error
	if s.browser != nil {
		ctx, cancel := context.WithTimeout(s.browser, patience)
		defer cancel()
		err = chromedp.Cancel(ctx)
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

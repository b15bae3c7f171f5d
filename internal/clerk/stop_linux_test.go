package clerk_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkinvite/internal/clerk"
	"bulkinvite/internal/expect"
	"bulkinvite/internal/must"
)

const (
	stoppedURL  = "CLERK_TEST_STOPPED_URL"
	stopsItself = "CLERK_TEST_STOPS_ITSELF"
)

// stopped is a separate process that makes a call to url. It may stop itself once it has a
// connection and has written nothing.
type stopped struct {
	*exec.Cmd
	out      *bufio.Scanner
	stderr   bytes.Buffer
	deadline time.Time
}

func startStopped(t *testing.T, url string, itself bool) *stopped {
	t.Helper()
	s := &stopped{Cmd: exec.CommandContext(within(t, 30*time.Second), os.Args[0], "-test.run=^TestStoppedProcess$")}
	s.Env = append(os.Environ(), stoppedURL+"="+url, stopsItself+"="+strconv.FormatBool(itself))
	s.Stderr = &s.stderr
	out, err := s.StdoutPipe()
	must.OK(t, err)
	must.OK(t, s.Start())
	s.out = bufio.NewScanner(out)
	if !s.out.Scan() {
		t.Fatalf("the process did not say its deadline: %s", s.stderr.String())
	}
	if s.deadline, err = time.Parse(time.RFC3339Nano, s.out.Text()); err != nil {
		t.Fatal(err)
	}
	return s
}

// resume lets the process continue, and returns how its call ended.
func (s *stopped) resume(t *testing.T) string {
	t.Helper()
	expect.OK(t, s.Process.Signal(syscall.SIGCONT))
	ended := ""
	if s.out.Scan() {
		ended = s.out.Text()
	}
	if err := s.Wait(); err != nil {
		t.Errorf("%v: %s", err, s.stderr.String())
	}
	return ended
}

// makeStoppedCall runs in the separate process.
func makeStoppedCall() error {
	c, err := clerk.New(clerk.Config{Key: testKey, URL: os.Getenv(stoppedURL)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	stop := func() {
		deadline, _ := ctx.Deadline()
		fmt.Println(deadline.Format(time.RFC3339Nano))
		if os.Getenv(stopsItself) != "true" {
			return
		}
		// Signal this thread, so that it does not continue while the others stop.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if _, _, errno := syscall.Syscall(syscall.SYS_TGKILL, uintptr(os.Getpid()), uintptr(syscall.Gettid()), uintptr(syscall.SIGSTOP)); errno != 0 {
			panic(errno)
		}
	}
	metadata, err := json.Marshal(map[string]string{"x": strings.Repeat("x", 32<<10)})
	if err != nil {
		return err
	}
	a := c.Create(connected(ctx, stop), clerk.Invite{Email: "jane@example.com", PublicMetadata: metadata})
	fmt.Println(a.Class, a.Code, a.Sent)
	return nil
}

func TestStoppedProcess(t *testing.T) {
	t.Parallel()
	if os.Getenv(stoppedURL) != "" {
		if err := makeStoppedCall(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	got := make(chan int64, 1)
	url := listen(t, func(c *net.TCPConn) {
		n, err := io.Copy(io.Discard, c)
		if err != nil && !errors.Is(err, syscall.ECONNRESET) {
			t.Error(err)
		}
		got <- n
	})
	s := startStopped(t, url, true)
	<-time.After(time.Until(s.deadline) + 50*time.Millisecond)
	expect.Equal(t, "the call ended", s.resume(t), "not_sent deadline_passed false")
	expect.Equal(t, "bytes arrived", <-got, 0)
}

// TestUndeliveredRequest checks that a request which the kernel could not deliver by its deadline
// is not delivered later, even if its process is stopped and closes nothing.
func TestUndeliveredRequest(t *testing.T) {
	t.Parallel()
	begun, reading := make(chan struct{}), make(chan struct{})
	whole := make(chan bool, 1)
	url := listen(t, func(c *net.TCPConn) {
		in := bufio.NewReaderSize(c, 16)
		if _, err := in.Peek(1); err != nil {
			t.Error(err)
		}
		close(begun)
		<-reading
		r, err := http.ReadRequest(in)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
		}
		whole <- err == nil
	}, net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var setting error
		err := raw.Control(func(fd uintptr) {
			// So little that the request does not fit and stays in the sender's kernel.
			setting = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 2304)
		})
		return errors.Join(err, setting)
	}})
	s := startStopped(t, url, false)
	<-begun
	must.OK(t, s.Process.Signal(syscall.SIGSTOP))
	<-time.After(time.Until(s.deadline) + 500*time.Millisecond)
	close(reading)
	if <-whole {
		t.Error("the whole request arrived after its deadline")
	}
	expect.Equal(t, "the call ended", s.resume(t), "lost timeout true")
}

package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"bulkinvite/internal/must"
)

func ask(b *testing.B, h http.Handler, method, path, body string) {
	b.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer sk_live_x")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
}

func unlimited(b *testing.B, file string) *Server {
	b.Helper()
	none := Limit{N: -1}
	s, err := New(Config{StateFile: file, Limits: Limits{none, none, none}})
	must.OK(b, err)
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func BenchmarkCreate(b *testing.B) {
	for _, file := range []string{"", filepath.Join(b.TempDir(), "state")} {
		b.Run(map[bool]string{true: "memory", false: "journal"}[file == ""], func(b *testing.B) {
			h := unlimited(b, file).Handler()
			n := 0
			for b.Loop() {
				n++
				ask(b, h, "POST", "/v1/invitations", fmt.Sprintf(`{"email_address":"n%d@example.com","redirect_url":"https://app.example.com/"}`, n))
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	s := unlimited(b, "")
	h := s.Handler()
	r := &record{Op: opInvite}
	for i := range 100_000 {
		r.Invitations = append(r.Invitations, newInvitation(fmt.Sprintf("n%d@example.com", i), s.now().UnixMilli(), 30))
	}
	s.commit(r)
	for _, query := range []string{"limit=500", "limit=500&paginated=true", "limit=500&offset=90000&status=pending&paginated=true", "limit=500&order_by=email_address"} {
		b.Run(query, func(b *testing.B) {
			for b.Loop() {
				ask(b, h, "GET", "/v1/invitations?"+query, "")
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	file := filepath.Join(b.TempDir(), "state")
	s := unlimited(b, file)
	h := s.Handler()
	for i := range 20_000 {
		ask(b, h, "POST", "/v1/invitations", fmt.Sprintf(`{"email_address":"n%d@example.com"}`, i))
	}
	must.OK(b, s.Close())
	for b.Loop() {
		again, err := New(Config{StateFile: file})
		must.OK(b, err)
		must.OK(b, again.Close())
	}
	b.ReportMetric(float64(b.N*20_000)/b.Elapsed().Seconds(), "creates/s")
}

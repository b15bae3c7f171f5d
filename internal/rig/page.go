package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"bulkinvite/internal/web"
)

// Page is a running `bulkinvite serve` with operators signed in.
type Page struct {
	Server  *Process
	URL     string
	Clients []*http.Client // one for each operator, signed in
}

var serving = regexp.MustCompile(`"serving".*(http://127\.0\.0\.1:\d+)`)

// Serve starts `bulkinvite serve` on a free port of loopback and signs operators in. The server
// ends with the stage.
func (s *Stage) Serve(ctx context.Context, operators int) (*Page, error) {
	const password = "a password for the rig"
	users := make([]string, operators)
	for i := range users {
		user, err := web.NewUser(fmt.Sprintf("rig%d", i), web.Operator, password)
		if err != nil {
			return nil, err
		}
		users[i] = user.String()
	}
	p := &Page{}
	var err error
	env := s.Env
	s.Env = append(slices.Clone(env), "BULKINVITE_USERS="+strings.Join(users, "\n"))
	p.Server, err = s.Launch(ctx, append([]string{"serve", "--listen=127.0.0.1:0"}, s.Limits()...)...)
	s.Env = env
	if err != nil {
		return nil, err
	}
	for p.URL == "" {
		if err := Sleep(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
		text, err := os.ReadFile(p.Server.Log)
		if err != nil {
			return nil, err
		}
		if found := serving.FindSubmatch(text); found != nil {
			p.URL = string(found[1])
		}
		select {
		case <-p.Server.Over():
			return nil, fmt.Errorf("serve ended: %s", Tail(p.Server.Log))
		default:
		}
	}
	for i := range users {
		client, err := p.signIn(fmt.Sprintf("rig%d", i), password)
		if err != nil {
			return nil, fmt.Errorf("sign in: %w", err)
		}
		p.Clients = append(p.Clients, client)
	}
	return p, nil
}

func (p *Page) signIn(name, password string) (*http.Client, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	// Don't follow redirects: the page that they lead to must not be read before it is measured.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := &http.Client{Jar: jar, CheckRedirect: stay, Transport: &http.Transport{}}
	form := url.Values{"name": {name}, "password": {password}}
	answer, err := client.PostForm(p.URL+"/login", form) // ends with the server
	if err != nil {
		return nil, err
	}
	if err := answer.Body.Close(); err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusSeeOther {
		return nil, errors.New(answer.Status)
	}
	return client, nil
}

// Get reads a page as the first operator, and returns how long that took. A status other than 200
// is an error.
func (p *Page) Get(ctx context.Context, path string) (took time.Duration, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	began := time.Now()
	answer, err := p.Clients[0].Do(request)
	if err != nil {
		return 0, "", err
	}
	text, err := io.ReadAll(answer.Body)
	took = time.Since(began)
	if err = errors.Join(err, answer.Body.Close()); err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, answer.Status)
	}
	return took, string(text), err
}

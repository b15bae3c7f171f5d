package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"bulkinvite/internal/loopback"
	"bulkinvite/internal/web"
	"bulkinvite/jobs"
)

type serveCmd struct {
	workerFlags

	Listen      string `default:"127.0.0.1:8080" placeholder:"ADDRESS" help:"Where it listens. Off loopback there must be users, or a provider. Default: 127.0.0.1:8080."`
	Work        bool   `help:"Also work as bulkinvite work does, except that only that command runs scheduled sweeps and purges. Default: off."`
	UsersFile   string `env:"BULKINVITE_USERS_FILE" type:"path" predictor:"file" placeholder:"FILE" help:"Who may sign in: lines that bulkinvite user NAME prints. $$BULKINVITE_USERS holds the same lines. Default: none, and a one-time link."`
	URL         string `name:"url" env:"BULKINVITE_URL" placeholder:"URL" help:"What browsers call it by, as behind a proxy: https://invite.example.com. Default: the address that it listens on."`
	UploadQuota size   `env:"BULKINVITE_UPLOAD_QUOTA" default:"8GiB" placeholder:"SIZE" help:"How much all uploaded files that drafts keep may take in the database: 500MB, 2GiB. More is refused until drafts are started or discarded. Default: 8GiB."`

	TrustedProxy []string `env:"BULKINVITE_TRUSTED_PROXY" placeholder:"CIDR" help:"Network of a proxy whose X-Forwarded-For says where people come from, such as 10.0.0.0/8; may be repeated. Default: none."`

	openIDFlags
}

// size is a number of bytes, which may be given with a unit.
type size int64

// UnmarshalText reads 500MB, 2GiB or a plain number of bytes; above zero.
func (s *size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n < 1 || n > math.MaxInt64 {
		return fmt.Errorf("%q is no size: write bytes, or a size such as 500MB or 2GiB", text)
	}
	*s = size(n)
	return nil
}

// usersVariable holds users as --users-file does.
const usersVariable = "BULKINVITE_USERS"

// Help is shown before the flags.
func (serveCmd) Help() string {
	return `Examples:

    bulkinvite serve --sandbox --work
    bulkinvite user maria --role operator >> users
    bulkinvite serve --listen :8080 --users-file users --url https://invite.example.com

The page and the JSON API. Without users it prints a link that signs in once, and listens on loopback only. At SIGTERM or Ctrl-C it finishes what is under way and exits with 0.`
}

// Run serves until a signal comes.
func (c *serveCmd) Run(ctx context.Context, p *program) error {
	users, err := c.users(p)
	if err != nil {
		return err
	}
	webhook, err := c.webhook()
	if err != nil {
		return err
	}
	address, err := c.address(len(users) > 0 || c.OpenIDIssuer != "")
	if err != nil {
		return err
	}
	proxies, err := c.trustedProxies()
	if err != nil {
		return err
	}
	openID, err := c.openID(address)
	if err != nil {
		return err
	}
	at, err := p.connection(ctx)
	if err != nil {
		return err
	}
	t := at.target
	if n := at.pool.Config().MaxConns; n < web.MinConns {
		remedy := fmt.Sprintf("write pool_max_conns=%d or more in the database's URL, or leave it out", web.MinConns)
		return fail(exitUsage, "database_url", remedy, "serve needs %d connections to the database: pool_max_conns is %d", web.MinConns, n)
	}
	server, err := web.New(at.pool, web.Config{
		Instance: at.instance, Real: t.real(), Limits: p.limits, Users: users, OpenID: openID, URL: address,
		TrustedProxies: proxies, Clerk: t.api, RequestTimeout: p.settings.RequestTimeout,
		UploadQuota: int64(c.UploadQuota), Metrics: at.metrics(), Log: p.log,
	})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fail(exitFailed, "listen", "name another address: --listen 127.0.0.1:8081", "serve: %w", err)
	}
	base := "http://" + listener.Addr().String()
	if address != nil {
		base = address.Scheme + "://" + address.Host
	}
	if len(users) == 0 && openID == nil {
		server.Link(loginName(), func(path string) { p.note("Sign in, once:  %s%s", base, path) })
	}
	p.log.Info("serving", "address", base, "instance", t.clerkID, "environment", t.environment, "users", len(users), "openid", openID != nil, "work", c.Work)
	var worker *jobs.Worker // nil: it only serves
	if c.Work {
		config := p.workerConfig(at.instance)
		config.Webhook, config.ReconcileEvery = webhook, c.ReconcileEvery
		if worker, err = jobs.New(at.pool, t.api, config); err != nil {
			return errors.Join(err, listener.Close())
		}
	}
	return serve(ctx, server, listener, worker)
}

// idleBytes are kept by a server and never touched, so that they take no memory.
// Garbage is collected when as much has come as is kept. A server keeps 7 MB: one
// answer in twenty met a collection, which takes as long as the answer itself. So
// it comes a fifth as often, and up to as many bytes of garbage lie about.
const idleBytes = 32 << 20

// serve serves and, with a worker, works, until ctx ends or one of them fails.
func serve(ctx context.Context, server *web.Server, listener net.Listener, worker *jobs.Worker) error {
	idle := make([]byte, idleBytes)
	defer runtime.KeepAlive(idle)
	told := ctx
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.Serve(ctx, listener) })
	if worker != nil {
		group.Go(func() error { return worker.Run(ctx, nil) })
	}
	return workerEnded(told, group.Wait())
}

// users reads who may sign in.
func (c *serveCmd) users(p *program) ([]web.User, error) {
	text := []byte(os.Getenv(usersVariable))
	from := usersVariable
	if c.UsersFile != "" {
		var err error
		if text, err = os.ReadFile(c.UsersFile); err != nil {
			return nil, fail(exitUsage, "users", "see that the file is there and may be read", "read --users-file: %w", err)
		}
		from = "--users-file"
		if info, err := os.Stat(c.UsersFile); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			p.log.Warn("others on this machine may read the file of users. Use chmod 600 to close it", "file", c.UsersFile)
		}
	}
	users, err := web.ParseUsers(bytes.NewReader(text))
	if err != nil {
		return nil, fail(exitUsage, "users", "bulkinvite user NAME --role operator prints a line for it", "%s: %w", from, err)
	}
	return users, nil
}

// address reads --url, and refuses to listen where strangers come by without
// anybody who could sign in.
func (c *serveCmd) address(users bool) (*url.URL, error) {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return nil, fail(exitUsage, "listen", "write it as 127.0.0.1:8080 or :8080", "--listen=%s is no address", c.Listen)
	}
	if !loopback.Host(host) && !users {
		return nil, fail(exitUsage, "users", "run bulkinvite user NAME --role operator >> users, then use --users-file users; or --openid-issuer; or --listen 127.0.0.1:8080",
			"--listen=%s lets others than this machine in, and there are no users who could sign in", c.Listen)
	}
	if c.URL == "" {
		return nil, nil
	}
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" {
		return nil, fail(exitUsage, "url", "write it as https://invite.example.com", "--url=%s is not what a browser could call it by", c.URL)
	}
	return u, nil
}

// trustedProxies reads --trusted-proxy.
func (c *serveCmd) trustedProxies() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range c.TrustedProxy {
		network, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fail(exitUsage, "trusted_proxy", "write it as 10.0.0.0/8, or 10.0.0.7/32 for one address", "--trusted-proxy=%s is not a network", text)
		}
		all = append(all, network)
	}
	return all, nil
}

type userCmd struct {
	Name string `arg:"" help:"The name that they sign in by; the actor of what they do."`
	Role string `enum:"auditor,operator" default:"auditor" placeholder:"auditor|operator" help:"auditor reads everything; operator also uploads, starts, pauses and cancels. Default: auditor."`
}

// Help is shown before the flags.
func (userCmd) Help() string {
	return `Examples:

    bulkinvite user maria --role operator >> users
    printf '%s' "$PASSWORD" | bulkinvite user tom >> users

Asks for a password and prints a line for --users-file, with the password's bcrypt hash. Off a terminal the password is read from standard input. Needs no database.`
}

// Run makes a line of a password.
func (c *userCmd) Run(ctx context.Context, p *program) error {
	password, err := p.password(ctx)
	if err != nil {
		return err
	}
	u, err := web.NewUser(c.Name, web.Role(c.Role), password)
	if err != nil {
		return usage(fmt.Errorf("user: %w", err))
	}
	return p.printAsIs(u.String() + "\n")
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"bulkinvite/internal/clerk/sandbox"
)

type sandboxCmd struct {
	Listen      string            `default:"127.0.0.1:8091" placeholder:"ADDRESS" help:"Where to listen; port 0 takes a free one. Default: 127.0.0.1:8091."`
	State       string            `type:"path" placeholder:"FILE" help:"Where its state is kept. Default: sandbox/state.jsonl in the data directory, which --sandbox uses too."`
	Demo        bool              `help:"Add the users, invitations and block list for the files in examples/, if the state is new. Default: off."`
	Window      string            `enum:"sliding,fixed" default:"sliding" placeholder:"sliding|fixed" help:"How limits are counted. Default: sliding."`
	Environment string            `enum:"production,development," default:"" placeholder:"NAME" help:"production or development. Default: by the key of each request."`
	InstanceID  string            `default:"ins_sandbox" placeholder:"ID" help:"What GET /instance says; it begins with ins_. Default: ins_sandbox."`
	User        []string          `sep:"none" placeholder:"ADDRESS" help:"Somebody who is a user, if the state is new. May be repeated. Default: nobody."`
	Pending     []string          `sep:"none" placeholder:"ADDRESS" help:"Somebody with a pending invitation, if the state is new. Default: nobody."`
	Block       []string          `sep:"none" placeholder:"ADDRESS" help:"An address, or *@ and a domain, that may not be invited. Default: none."`
	Seeds       string            `type:"path" placeholder:"FILE" help:"More of both, as JSON: {\"users\":[…],\"invitations\":[…]}. Default: none."`
	Switch      map[string]string `placeholder:"NAME=VALUE" help:"Settle what Clerk leaves open: bulk=partial, list_lag=2s, … Default: as Clerk seems to be."`
	Fault       []string          `sep:"none" placeholder:"JSON" help:"Break some requests: {\"call\":\"create\",\"every\":3,\"kind\":\"cut_after\"}. Default: none."`
	Accept      float64           `placeholder:"SHARE" help:"The share of people who accept, 0 to 1. Default: 0."`
	AcceptAfter time.Duration     `placeholder:"TIME" help:"How long after their invitation they do. Default: 0s."`
}

// Help is shown before the flags.
func (sandboxCmd) Help() string {
	return `Examples:

    bulkinvite sandbox --demo
    bulkinvite sandbox --limit-create 100/3.6s --limit-bulk 25/3.6s    an hour in 3.6 s
    bulkinvite sandbox --fault '{"call":"create","every":5,"kind":"cut_after"}'
    CLERK_API_URL=http://127.0.0.1:8091/v1 CLERK_SECRET_KEY=sk_test_x bulkinvite send hires.csv

It prints the URL for CLERK_API_URL, and keeps the limits that the settings name. GET /sandbox/mailbox tells how many mails each address got; its other calls: /sandbox/stats, requests, faults, config, accept, users, invitations. A request with an Origin header, or with a Host that is not loopback, gets 403. It ends at Ctrl-C.`
}

// Run serves the stand-in until a signal ends it.
func (c *sandboxCmd) Run(ctx context.Context, p *program) error {
	config, err := c.config(p)
	if err != nil {
		return err
	}
	stand, err := p.openSandbox(config)
	if err != nil {
		return err
	}
	at, err := p.listen("the sandbox", c.Listen, sandbox.LocalOnly(stand.Handler()))
	if err != nil {
		return err
	}
	url := "http://" + at.String() + "/v1" // for --clerk-url
	if p.json {
		err = p.printJSON(map[string]string{"url": url})
	} else {
		err = p.printAsIs(url + "\n")
	}
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (c *sandboxCmd) config(p *program) (sandbox.Config, error) {
	var config sandbox.Config
	if c.Demo {
		config = sandbox.Demo()
	}
	config.StateFile = c.State
	if c.State == "" {
		state, err := p.sandboxState()
		if err != nil {
			return config, err
		}
		config.StateFile = state
	}
	config.Log = p.log
	config.WindowMode, config.Environment, config.InstanceID = c.Window, c.Environment, c.InstanceID
	config.Users = append(config.Users, c.User...)
	config.Invitations = append(config.Invitations, c.Pending...)
	config.Blocked = append(config.Blocked, c.Block...)
	if c.Seeds != "" {
		config.SeedFile = c.Seeds
	}
	config.Acceptance = sandbox.Acceptance{Fraction: c.Accept, After: sandbox.Duration(c.AcceptAfter)}
	config.Limits = sandbox.Limits{Create: sandboxLimit(p.settings.LimitCreate), Bulk: sandboxLimit(p.settings.LimitBulk)}
	if p.settings.LimitGeneral != nil {
		config.Limits.General = sandboxLimit(*p.settings.LimitGeneral)
	}
	if err := parseSwitches(c.Switch, &config.Switches); err != nil {
		return config, usage(err)
	}
	for _, text := range c.Fault {
		var fault sandbox.Fault
		if err := strictJSON([]byte(text), &fault); err != nil {
			return config, usage(fmt.Errorf("--fault: %w", err))
		}
		config.Faults = append(config.Faults, fault)
	}
	return config, nil
}

// parseSwitches reads NAME=VALUE pairs as the fields of the sandbox's JSON.
func parseSwitches(pairs map[string]string, into *sandbox.Switches) error {
	fields := make(map[string]any, len(pairs))
	for name, value := range pairs {
		fields[name] = value
		if b, err := strconv.ParseBool(value); err == nil {
			fields[name] = b
		}
		if n, err := strconv.Atoi(value); err == nil {
			fields[name] = n
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("--switch: %w", err)
	}
	if err := strictJSON(text, into); err != nil {
		return fmt.Errorf("--switch: %w", err)
	}
	return nil
}

// strictJSON decodes one document and refuses fields that v does not have.
func strictJSON(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

// sandboxFailure says why a stand-in could not be made.
func sandboxFailure(err error) error {
	if errors.Is(err, sandbox.ErrInUse) {
		return fail(exitFailed, "sandbox_in_use",
			"end the other, or send through it: CLERK_API_URL=http://127.0.0.1:8091/v1 (see bulkinvite sandbox) instead of --sandbox",
			"another program uses the sandbox's state: %w", err)
	}
	return fail(exitUsage, "sandbox", "bulkinvite sandbox --help says what there is", "start the sandbox: %w", err)
}

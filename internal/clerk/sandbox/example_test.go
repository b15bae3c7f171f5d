package sandbox_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"bulkinvite/internal/clerk/sandbox"
)

// An instance with one user and a limit of three creates a second. The first answer is lost after
// its mail was sent.
func Example() {
	stand, err := sandbox.New(sandbox.Config{
		Users:  []string{"ann@example.com"},
		Limits: sandbox.Limits{Create: sandbox.Limit{N: 3, Window: time.Second}},
		Faults: []sandbox.Fault{{Call: "create", First: 1, Kind: sandbox.FaultCutAfter}},
	})
	check(err)
	server := httptest.NewServer(stand.Handler())
	defer server.Close()

	for _, email := range []string{"bob@example.com", "bob@example.com", "ann@example.com", "eve@example.com"} {
		req, err := http.NewRequest("POST", server.URL+"/v1/invitations", strings.NewReader(`{"email_address":"`+email+`"}`))
		check(err)
		req.Header.Set("Authorization", "Bearer sk_test_example")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println("no answer")
			continue
		}
		check(resp.Body.Close())
		fmt.Println(resp.StatusCode)
	}

	resp, err := http.Get(server.URL + "/sandbox/mailbox")
	check(err)
	mailbox, err := io.ReadAll(resp.Body)
	check(err)
	check(resp.Body.Close())
	fmt.Printf("%s", mailbox)
	check(stand.Close())
	// Output:
	// no answer
	// 400
	// 422
	// 429
	// {"mails":1,"addresses":{"bob@example.com":1},"doubled":[]}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

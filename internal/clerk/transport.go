package clerk

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// maxBody is in bytes. It is far above the largest answer of the API, a page of 500 users.
	maxBody = 16 << 20
	// maxIdle is how many calls may run at once without opening new connections afterwards.
	maxIdle = 256
	// writeBuffer is in bytes. It fits a bulk call of ten with much metadata, so that a request is
	// one write and its deadline is checked once.
	writeBuffer = 256 << 10
)

var (
	errTooLarge   = errors.New("the answer is too large")
	errNotSuccess = errors.New("the answer is no success")
)

// transport sends a request once and keeps its answer in the exchange. The SDK loses status and
// headers of an answer that is not Clerk's JSON.
type transport struct {
	base *http.Transport
}

// newTransport uses the network if dial is nil.
func newTransport(dial func(context.Context) (net.Conn, error)) *transport {
	proxy := http.ProxyFromEnvironment
	connect := (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	if dial != nil {
		proxy = nil
		connect = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one request at a time on a connection; the guard depends on it
	return &transport{base: &http.Transport{
		Proxy: proxy,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			inner, err := connect(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &conn{Conn: inner}, nil
		},
		Protocols:           protocols,
		MaxIdleConns:        maxIdle,
		MaxIdleConnsPerHost: maxIdle,
		IdleConnTimeout:     30 * time.Second,
		TLSHandshakeTimeout: 10 * time.Second,
		WriteBufferSize:     writeBuffer,
	}}
}

// RoundTrip returns a response for a success only. A redirect is not a success: following it would
// turn a POST into a GET, and a list would read as an invitation.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, ok := req.Context().Value(exchangeKey{}).(*exchange)
	if !ok {
		return nil, errors.Join(errors.New("a request without an exchange"), closeBody(req))
	}
	out, err := measured(req)
	if err != nil {
		return nil, err
	}
	if err := x.barred(); err != nil {
		return nil, err
	}
	resp, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	x.status, x.header = resp.StatusCode, resp.Header
	x.body, x.bodyErr = readBody(resp.Body)
	x.answered.Store(x.bodyErr == nil)
	// The body was read, or x.bodyErr says why not. An error of Close would add nothing.
	_ = resp.Body.Close()
	if x.bodyErr != nil {
		return nil, x.bodyErr
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, errNotSuccess
	}
	resp.Body = io.NopCloser(bytes.NewReader(x.body))
	return resp, nil
}

// measured sets the request's length, which the SDK does not state; without it net/http would send
// the body in chunks. GetBody lets net/http use another connection if a stale one took no byte.
// exchange.write refuses any other repetition.
func measured(req *http.Request) (*http.Request, error) {
	if req.Body == nil {
		return req, nil
	}
	body, err := io.ReadAll(req.Body)
	if err = errors.Join(err, closeBody(req)); err != nil {
		return nil, err
	}
	out := req.WithContext(req.Context())
	out.ContentLength = int64(len(body))
	out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	out.Body, err = out.GetBody()
	return out, err
}

func closeBody(req *http.Request) error {
	if req.Body == nil {
		return nil
	}
	return req.Body.Close()
}

func readBody(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	return body, nil
}

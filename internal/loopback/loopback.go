// Package loopback recognizes this machine's own addresses. It imports nothing of the
// program.
package loopback

import (
	"net"
	"net/url"
	"strings"
)

// Host reports whether a host is this machine: localhost or a loopback address. The host has no
// port, as [url.URL.Hostname] returns it.
func Host(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Secure reports whether nobody on the network can read what is sent to a URL: it is https://, or
// http:// to this machine.
func Secure(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" && Host(u.Hostname()) }

// Package loopback tells this machine's own addresses from others.
package loopback

import (
	"net"
	"net/url"
	"strings"
)

// Host reports whether a host without a port, as [url.URL.Hostname] returns it, is this machine: localhost or a loopback
// address.
func Host(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// Secure reports whether what is sent to a URL can't be read on the way: it is https://, or http:// to this machine.
func Secure(u *url.URL) bool { return u.Scheme == "https" || u.Scheme == "http" && Host(u.Hostname()) }

package main

import (
	"net"
	"strconv"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// tunnel is one LOCAL:HOST:PORT: where this host listens, and where the node connects to.
type tunnel struct {
	network string // tcp or unix
	local   string // address or path to listen at
	to      string // HOST:PORT, as the node sees it
}

const tunnelForm = "LOCAL:HOST:PORT; LOCAL is [ADDRESS:]PORT or a path with a /"

// parseTunnel reads LOCAL:HOST:PORT. Without an address it listens on 127.0.0.1; port 0 takes a free one. IPv6 addresses
// stand in brackets.
func parseTunnel(text string) (tunnel, error) {
	rest, port, ok := cutLast(text)
	if !ok {
		return tunnel{}, notATunnel(text, "it has too few parts")
	}
	local, host, ok := cutLast(rest)
	if !ok {
		return tunnel{}, notATunnel(text, "it has too few parts")
	}
	to, err := auth.CanonicalPlace(net.JoinHostPort(host, port))
	if err != nil {
		return tunnel{}, notATunnel(text, err.Error())
	}
	t := tunnel{to: to}
	var wrong string
	if t.network, t.local, wrong = localEnd(local); wrong != "" {
		return tunnel{}, notATunnel(text, wrong)
	}
	return t, nil
}

func localEnd(local string) (network, address, wrong string) {
	if strings.Contains(local, "/") {
		if len(local) > maxSocketPath {
			return "", "", "the path " + strconv.Quote(local) + " is too long for a socket"
		}
		return "unix", local, ""
	}
	host, port := "127.0.0.1", local
	if h, p, ok := cutLast(local); ok {
		host, port = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]"), p
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", "", strconv.Quote(port) + " is no port, nor a path with a /"
	}
	if host == "" {
		return "", "", "a host is missing"
	}
	return "tcp", net.JoinHostPort(host, port), ""
}

// maxSocketPath is what fits into a unix socket's address on Linux, in bytes (sun_path, less its final zero).
const maxSocketPath = 107

// cutLast cuts the part behind the last colon that is not in brackets, and takes brackets around it away.
func cutLast(text string) (before, last string, ok bool) {
	if inner, bracketed := strings.CutSuffix(text, "]"); bracketed {
		at := strings.LastIndexByte(inner, '[')
		if at < 1 || text[at-1] != ':' {
			return "", "", false
		}
		return text[:at-1], inner[at+1:], true
	}
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return "", "", false
	}
	return text[:at], text[at+1:], true
}

func notATunnel(text, why string) error {
	return fleet.Errorf(fleet.Invalid, "%q is no tunnel: %s", text, why).Hinted("%s, as in 8080:127.0.0.1:80", tunnelForm)
}

package main

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
)

// masked stands where a secret was.
const masked = "•••masked•••"

// mask takes secrets out of text that leaves a host. What is put into a bundle is chosen so that there are none; this is the second
// line, for logs and units into which people and programs write what they like.
type mask struct {
	known [][]byte // in the forms in which they may stand
	count int      // secrets that were taken out
}

// leastSecret is how short a known secret may be: what is shorter stands in texts by chance.
const leastSecret = 6

// know adds a secret, in the forms that programs write bytes in.
func (m *mask) know(secret []byte) {
	secret = bytes.TrimSpace(secret)
	if len(secret) < leastSecret {
		return
	}
	inHex := hex.EncodeToString(secret)
	forms := [][]byte{secret, []byte(inHex), []byte(strings.ToUpper(inHex))}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		forms = append(forms, []byte(e.EncodeToString(secret)))
	}
	in32 := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	forms = append(forms, []byte(in32), []byte(strings.ToLower(in32)))
	for _, f := range forms {
		if !slices.ContainsFunc(m.known, func(k []byte) bool { return bytes.Equal(k, f) }) {
			m.known = append(m.known, f)
		}
	}
}

// wholly are texts that are secrets from end to end: join strings, key files, private keys, recovery keys, what clouds and web
// servers take for a proof.
var wholly = []string{
	`muster-join-[0-9A-Za-z_.-]{8,}(?:\s+[0-9A-Za-z_-]{20,})*`,
	`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\z)`,
	`\b(?:[A-Z2-7]{4}-){7,}[A-Z2-7]{4}\b`,
	`\bage-secret-key-1[0-9a-z]+|AGE-SECRET-KEY-1[0-9A-Z]+`,
	`\b(?:AKIA|ASIA)[0-9A-Z]{16}\b`,
	`(?i)\b(?:bearer|basic)\s+[0-9a-z+/._~=-]{8,}`,
	`\bey[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]*`,
	`\b(?:gh[pousr]_|github_pat_|glpat-)[0-9A-Za-z_-]{20,}`,
	`\bxox[a-z]-[0-9A-Za-z-]{8,}`,
}

// secretName are names that say that what they name is secret. Short words count where they end a word of the name: auth in
// proxy_auth_line, not in author.
const (
	secretName = `(?:[\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|signing|signature|seed|credential|authorization|cookie)[\w.-]*` +
		`|[\w.-]*(?:pass|pwd|psk|auth)(?:[_.-][\w.-]*)?|(?:[\w.-]*[_.-])?(?:sig|pat))`
	secretValue = `"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&"']+`
)

// namedValue is NAME=VALUE, "NAME": "VALUE", --NAME VALUE. Where a file has room around its sign, namedLine takes the rest of the line,
// for a value may be several words. namedHex is a key that follows its name without a sign.
const (
	namedValue = `(?i)(--` + secretName + `(?:\s+|=)|\b` + secretName + `["']?\s*[=:]\s*)(` + secretValue + `)`
	namedLine  = `(?im)(\b` + secretName + `(?:[ \t]+=[ \t]*|=[ \t]+)|^[ \t]*` + secretName + `:[ \t]+)[^\s{\["'].*$`
	namedHex   = `(?i)(\b` + secretName + `\s+)([0-9a-f]{32,})\b`
)

// Arguments that programs take secrets in: mysql -pSECRET, sshpass -p SECRET, curl -u NAME:SECRET; and what sudo logs of a command.
const (
	flagPassword = `((?:^|\s)-p)[^\s-]\S{3,}`
	sshPass      = `(\bsshpass\s+-p\s*)\S+`
	flagUser     = `((?:^|\s)(?:-u|--user|-U|--proxy-user)[\s=]*)[^\s:]+:\S+`
	sudoCommand  = `(\bCOMMAND=).+`
)

// userInfo is the part of a URL between // and the last @: a password may hold slashes and other @. unitEnvironment is what a unit of
// systemd gives its program, with the lines that go on.
const (
	userInfo        = `([a-zA-Z][a-zA-Z0-9+.-]*://)[^\s"]+@`
	unitEnvironment = `(?m)^(\s*Environment=)(?:.*\\\n)*.*$`
)

// randomText is what looks like nothing but random bytes in base64: long, with small and large letters and digits. IDs and digests,
// which are no secrets, have small letters alone.
const randomText = `[0-9A-Za-z+/_-]{40,}={0,2}`

// patterns are compiled where they are used: a program that masks nothing does not pay for them.
type patterns struct {
	wholly              []*regexp.Regexp
	user, named, random *regexp.Regexp
	behind              []*regexp.Regexp // what stands behind their first group goes
}

func newPatterns() patterns {
	p := patterns{user: regexp.MustCompile(userInfo), named: regexp.MustCompile(namedValue), random: regexp.MustCompile(randomText)}
	for _, w := range wholly {
		p.wholly = append(p.wholly, regexp.MustCompile(w))
	}
	for _, b := range []string{unitEnvironment, sudoCommand, sshPass, flagPassword, flagUser, namedLine, namedHex} {
		p.behind = append(p.behind, regexp.MustCompile(b))
	}
	return p
}

// text returns a text without secrets. free says that anybody may have written into it, as into a log: then what only looks like a
// secret goes as well.
func (m *mask) text(p patterns, text []byte, free bool) []byte {
	for _, k := range m.known {
		if n := bytes.Count(text, k); n > 0 {
			m.count += n
			text = bytes.ReplaceAll(text, k, []byte(masked))
		}
	}
	for _, w := range p.wholly {
		text = m.replace(w, text, func([]byte) []byte { return []byte(masked) })
	}
	text = m.replace(p.user, text, func(found []byte) []byte { return p.user.ReplaceAll(found, []byte("${1}"+masked+"@")) })
	if !free {
		return text
	}
	for _, b := range p.behind {
		text = m.replace(b, text, func(found []byte) []byte { return b.ReplaceAll(found, []byte("${1}"+masked)) })
	}
	text = m.replace(p.named, text, func(found []byte) []byte {
		if bytes.Contains(found, []byte(".go:")) { // a place in a program
			return found
		}
		return p.named.ReplaceAll(found, []byte("${1}"+masked))
	})
	return m.replace(p.random, text, func(found []byte) []byte {
		if !random(found) {
			return found
		}
		return []byte(masked)
	})
}

func (m *mask) replace(r *regexp.Regexp, text []byte, by func([]byte) []byte) []byte {
	return r.ReplaceAllFunc(text, func(found []byte) []byte {
		if bytes.Contains(found, []byte(masked)) && len(found) < 2*len(masked) {
			return found // it is masked already
		}
		out := by(found)
		if !bytes.Equal(out, found) {
			m.count++
		}
		return out
	})
}

// random reports whether a text has small and large letters and digits, and no path's or name's regularity.
func random(text []byte) bool {
	var small, large, digits int
	for _, c := range text {
		switch {
		case c >= 'a' && c <= 'z':
			small++
		case c >= 'A' && c <= 'Z':
			large++
		case c >= '0' && c <= '9':
			digits++
		}
	}
	return large > len(text)/8 && small > len(text)/8 && digits >= 3
}

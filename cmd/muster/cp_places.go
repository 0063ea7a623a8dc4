package main

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
)

// errand is what a person asks muster cp for: files from here to nodes, or from one node to here.
type errand struct {
	put     bool
	where   string // one NODE, or an expression
	many    bool   // where is an expression
	sources []string
	to      string
}

// place is one argument of muster cp.
type spot struct {
	where  string
	path   string
	remote bool
}

// spotOf reads NODE:PATH. What begins like a path, or has a slash before its first colon, is a path of here, as scp has it.
func spotOf(arg string) spot {
	at := strings.IndexByte(arg, ':')
	if at < 0 || strings.HasPrefix(arg, ".") || strings.ContainsRune(arg[:at], '/') {
		return spot{path: arg}
	}
	return spot{arg[:at], arg[at+1:], true}
}

// readErrand reads the arguments; target is --target.
func readErrand(args []string, target string) (errand, error) {
	if len(args) < 2 {
		return errand{}, fleet.Errorf(fleet.Invalid, "muster cp needs what to copy, and where to").Hinted("muster cp --help")
	}
	for _, arg := range args {
		if arg == "" {
			return errand{}, fleet.Errorf(fleet.Invalid, "one of the paths is empty").Hinted("muster cp --help")
		}
	}
	last := spotOf(args[len(args)-1])
	var from []spot
	for _, arg := range args[:len(args)-1] {
		from = append(from, spotOf(arg))
	}
	if target != "" {
		return errandTo(target, from, last)
	}
	if last.remote {
		return errandPut(from, last)
	}
	return errandGet(from, last)
}

// errandTo is for --target: the destination is a path on each of the nodes.
func errandTo(target string, from []spot, last spot) (errand, error) {
	if last.where != "" {
		return errand{}, fleet.Errorf(fleet.Invalid, "--target %s and %s: at once", target, last.where)
	}
	last.where, last.remote = target, true
	e, err := errandPut(from, last)
	e.many = true
	return e, err
}

func errandPut(from []spot, to spot) (errand, error) {
	e := errand{put: true, where: to.where, many: !isOneNode(to.where), to: to.path}
	if to.where == "" {
		return e, fleet.Errorf(fleet.Invalid, "which node does :%s mean?", to.path).Hinted("NODE:PATH; a file of here with a colon in its name is ./NAME")
	}
	for _, f := range from {
		if f.remote {
			return e, fleet.Errorf(fleet.Invalid, "%s:%s and %s:%s are both on nodes; one side must be here", f.where, f.path, to.where, to.path).
				Hinted("copy it here first; a file of here with a colon in its name is ./NAME")
		}
		e.sources = append(e.sources, f.path)
	}
	return e, nil
}

// farPaths lists the paths on the node that the errand touches, as they are signed.
func (e errand) farPaths() ([]string, error) {
	named := e.sources
	if e.put {
		named = []string{e.to}
	}
	var out []string
	for _, path := range named {
		canonical, err := auth.CanonicalPath(path)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, canonical) {
			out = append(out, canonical)
		}
	}
	return out, nil
}

func errandGet(from []spot, to spot) (errand, error) {
	e := errand{to: to.path}
	for i, f := range from {
		switch {
		case !f.remote:
			return e, fleet.Errorf(fleet.Invalid, "neither %s nor %s is on a node", f.path, to.path).Hinted("NODE:PATH is a path on a node")
		case f.where == "":
			return e, fleet.Errorf(fleet.Invalid, "which node does :%s mean?", f.path).Hinted("NODE:PATH; a file of here with a colon in its name is ./NAME")
		case !isOneNode(f.where):
			return e, fleet.Errorf(fleet.Invalid, "%s may be many nodes; files come from one at a time", f.where).Hinted("muster cp NODE:%s %s", f.path, to.path)
		case i > 0 && f.where != e.where:
			return e, fleet.Errorf(fleet.Invalid, "files come from one node at a time, not from %s and %s", e.where, f.where)
		}
		e.where = f.where
		e.sources = append(e.sources, f.path)
	}
	return e, nil
}

// isOneNode reports whether text has the form of a node's name or ID, rather than of an expression.
func isOneNode(text string) bool {
	for _, r := range text {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '-' {
			return false
		}
	}
	return true
}

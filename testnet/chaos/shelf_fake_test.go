package main

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/muster-fleet/muster/testnet/check"
)

// fakeShelf is the parameters of the fake fleet, and who has ever known which key of its keyring.
type fakeShelf struct {
	params  map[string]*fakeParam
	epoch   int
	knows   map[string]map[int]bool // epochs by host
	files   []string                // what was written to n3's disk
	removed map[string]bool
	puts    int
}

type fakeParam struct {
	versions []fakeVersion
	expires  time.Time
}

type fakeVersion struct {
	number uint32
	value  string
	labels []string
	epoch  int // that it is sealed to; 0: it is plain
}

func newFakeShelf() *fakeShelf {
	return &fakeShelf{params: map[string]*fakeParam{}, knows: map[string]map[int]bool{}, removed: map[string]bool{}}
}

func (f *fake) Holding(_ context.Context, host, text string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if host == "n3" && slices.ContainsFunc(f.shelf.files, func(file string) bool { return strings.Contains(file, text) }) {
		return []string{"/disk/dump"}, nil
	}
	return nil, nil
}

// members lists the hosts that are in the keyring now.
func (f *fake) members() []string {
	return slices.DeleteFunc(f.shape.hosts(), func(h string) bool { return f.tags[h][ringKey] != ringValue || f.shelf.removed[h] })
}

// newEpoch gives the members a key that nobody else has; it is made when one of them has left.
func (f *fake) newEpoch() {
	if !f.has("keeps its key when a member leaves") || f.shelf.epoch == 0 {
		f.shelf.epoch++
	}
	f.handOver()
}

// handOver gives all keys to all members.
func (f *fake) handOver() {
	for _, h := range f.members() {
		if f.shelf.knows[h] == nil {
			f.shelf.knows[h] = map[int]bool{}
		}
		for n := range f.shelf.epoch {
			f.shelf.knows[h][n+1] = true
		}
	}
	if f.has("never hands a key over") {
		delete(f.shelf.knows, "n4")
	}
}

// param speaks as muster param.
func (f *fake) param(host, stdin string, args []string) Result {
	f.expire()
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 {
			return args[i+1]
		}
		return ""
	}
	switch args[0] {
	case "put":
		if slices.Contains(args, "--stdin") {
			return f.putParams(map[string]string{args[1]: stdin}, true, args)
		}
		return f.putParams(map[string]string{args[1]: args[2]}, true, args)
	case "import":
		var all struct {
			Parameters []struct{ Name, Value string }
		}
		if err := json.Unmarshal([]byte(stdin), &all); err != nil {
			panic(err)
		}
		values := map[string]string{}
		for _, p := range all.Parameters {
			values[p.Name] = p.Value
		}
		return f.putParams(values, false, args)
	case "delete":
		return f.deleteParam(args[1])
	case "label":
		return f.labelParam(args[1], args[2], args[3])
	case "history":
		return f.paramHistory(args[1])
	case "get":
		if path := value("--path"); path != "" {
			return f.paramsBelow(path)
		}
		return f.getParam(host, args[1], slices.Contains(args, "--as-host"))
	}
	return Result{Code: 2, Stderr: "muster: what is " + args[0]}
}

func (f *fake) expire() {
	for name, p := range f.shelf.params {
		if !p.expires.IsZero() && time.Now().After(p.expires) && !f.has("keeps what has expired") {
			delete(f.shelf.params, name)
		}
		if !p.expires.IsZero() && f.has("expires what has time") {
			delete(f.shelf.params, name)
		}
	}
}

func noParam(name string) Result {
	return Result{Code: 1, Stderr: "muster: parameter " + name + " not found (ParameterNotFound)"}
}

// putParams puts versions in one act; one alone is told as such.
func (f *fake) putParams(values map[string]string, one bool, args []string) Result {
	if f.has("refuses secrets at rest") && f.shelf.puts > 5 && strings.Contains(values[sealedNames()[0]], "--") {
		return Result{Code: 5, Stderr: "muster: keyring chaos is closed"}
	}
	told := []map[string]any{}
	f.acts++
	f.shelf.puts++
	bad := f.shelf.puts%3 == 0
	for i, name := range sortedNames(values) {
		p := f.shelf.params[name]
		if p == nil {
			p = &fakeParam{}
		}
		v := fakeVersion{number: 1, value: values[name]}
		if n := len(p.versions); n > 0 {
			v.number = p.versions[n-1].number + 1
		}
		if at := slices.Index(args, "--if-version"); at >= 0 && args[at+1] != strconv.Itoa(int(v.number-1)) && !f.has("heeds no --if-version") {
			return Result{Code: 3, Stderr: "muster: --if-version: it has another by now"}
		}
		if at := slices.Index(args, "--expires"); at >= 0 {
			d, _ := time.ParseDuration(args[at+1])
			p.expires = time.Now().Add(d)
		}
		if slices.Contains(sealedNames(), name) {
			v.epoch = f.shelf.epoch
			if f.has("writes secrets down") {
				f.shelf.files = append(f.shelf.files, v.value)
			}
		}
		told = append(told, map[string]any{"name": name, "version": v.number})
		f.shelve(p, v, name, bad, i, args)
	}
	if one {
		return answer(told[0])
	}
	return answer(map[string]any{"parameters": told})
}

// shelve adds a version, unless a bug has something else in mind.
func (f *fake) shelve(p *fakeParam, v fakeVersion, name string, bad bool, i int, args []string) {
	switch {
	case v.number > 1 && f.has("loses a put") && name == keptNames()[0], f.has("does half an act") && i == 1:
		return
	case bad && f.has("counts wrongly"):
		v.number++
	case bad && f.has("puts another value"):
		v.value += "!"
	}
	p.versions = append(p.versions, v)
	if bad && f.has("puts twice") {
		v.number++
		p.versions = append(p.versions, v)
	}
	f.shelf.params[name] = p
	if at := slices.Index(args, "--label"); at >= 0 {
		f.move(p, v.number, args[at+1])
	}
}

func sortedNames(values map[string]string) []string {
	var out []string
	for name := range values {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (f *fake) move(p *fakeParam, to uint32, label string) {
	for i := range p.versions {
		v := &p.versions[i]
		if !f.has("leaves labels where they were") {
			v.labels = slices.DeleteFunc(v.labels, func(l string) bool { return l == label })
		}
		if v.number == to {
			v.labels = append(slices.Clone(v.labels), label)
		}
	}
}

func (f *fake) deleteParam(name string) Result {
	if f.shelf.params[name] == nil {
		return noParam(name)
	}
	f.acts++
	if !f.has("deletes nothing") {
		delete(f.shelf.params, name)
	}
	return answer(map[string]any{"deleted": []string{name}})
}

func (f *fake) labelParam(name, version, label string) Result {
	p := f.shelf.params[name]
	if p == nil {
		return noParam(name)
	}
	n, _ := strconv.Atoi(version)
	f.acts++
	f.move(p, uint32(n), label)
	return answer(map[string]any{"name": name, "version": n, "added": []string{label}})
}

func (f *fake) paramHistory(name string) Result {
	p := f.shelf.params[name]
	if p == nil {
		return noParam(name)
	}
	out := []map[string]any{}
	for _, v := range slices.Backward(p.versions) {
		out = append(out, map[string]any{"name": name, "version": v.number, "value": v.value, "labels": v.labels})
	}
	return answer(out)
}

func (f *fake) paramsBelow(path string) Result {
	out := []map[string]any{}
	for name, p := range f.shelf.params {
		if strings.HasPrefix(name, path+"/") {
			out = append(out, map[string]any{"name": name, "version": p.versions[len(p.versions)-1].number, "value": p.versions[len(p.versions)-1].value})
		}
	}
	return answer(out)
}

func (f *fake) getParam(host, name string, asHost bool) Result {
	p := f.shelf.params[name]
	if p == nil {
		return noParam(name)
	}
	v := p.versions[len(p.versions)-1]
	if f.has("reads what was a while ago") {
		v = p.versions[0]
	}
	if v.epoch == 0 || !asHost || f.opens(host, v) {
		return answer(map[string]any{"name": name, "version": v.number, "value": v.value})
	}
	return Result{Code: 3, Stderr: "muster: this host is no reader"}
}

func (f *fake) opens(host string, v fakeVersion) bool {
	return f.shelf.knows[host][v.epoch] || f.has("opens for anybody") || f.has("opens after it was removed") && f.shelf.removed[host]
}

// pin finds the versions that a command is told, when it is asked for.
func (f *fake) pin(c *fakeCommand) bool {
	for name, to := range map[string]*fakeVersion{c.ask.Name: &c.plain, c.ask.Sealed: &c.sealed} {
		p := f.shelf.params[name]
		switch {
		case name == "":
		case p == nil:
			return false
		default:
			*to = p.versions[len(p.versions)-1]
			if f.has("tells what was a while ago") {
				*to = p.versions[0]
			}
		}
	}
	return true
}

// shelfBugs says which promise each bug breaks.
func shelfBugs() map[string]check.Promise {
	return map[string]check.Promise{
		"loses a put":                        check.PromiseShelf,
		"puts twice":                         check.PromiseShelf,
		"counts wrongly":                     check.PromiseShelf,
		"puts another value":                 check.PromiseShelf,
		"does half an act":                   check.PromiseShelf,
		"heeds no --if-version":              check.PromiseShelf,
		"deletes nothing":                    check.PromiseShelf,
		"leaves labels where they were":      check.PromiseLabels,
		"keeps what has expired":             check.PromiseExpired,
		"expires what has time":              check.PromiseExpired,
		"reads what was a while ago":         check.PromiseFresh,
		"tells what was a while ago":         check.PromiseFresh,
		"never hands a key over":             check.PromiseOpen,
		"refuses secrets at rest":            check.PromiseOpen,
		"keeps its key when a member leaves": check.PromiseClosed,
		"opens for anybody":                  check.PromiseClosed,
		"opens after it was removed":         check.PromiseClosed,
		"writes secrets down":                check.PromisePlanted,
	}
}

func md5Of(text string) string {
	sum := md5.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

package params

import (
	"fmt"
	"strings"
	"testing"

	"github.com/muster-fleet/muster/node/auth"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/node/fleet/wire"
)

func readers(n int) (out []Reader) {
	for i := range n {
		out = append(out, Reader{Kind: ByKeyring, Name: "web", Life: fleet.UUID{1}, Epoch: uint32(i + 1), Key: fleet.ID{1}})
	}
	return out
}

func labels(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("l%d", i))
	}
	return out
}

func tags(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		out[fmt.Sprint("k", i)] = "v"
	}
	return out
}

func secret(p *Put) {
	p.Type, p.Size, p.Readers = SecureString, 64, readers(1)
}

func rotated(r Rotation) func(*Put) {
	return func(p *Put) {
		secret(p)
		p.Rotation = []Rotation{r}
	}
}

func policies(n int) (out []Policy) {
	for i := range n {
		out = append(out, Policy{Kind: NoChangeNotification, After: int64(i+1) * hour})
	}
	return out
}

func TestPutCheck(t *testing.T) {
	good, _ := plainPut("/a/b", 1, "x")
	for name, change := range map[string]func(*Put){
		"as it is": func(*Put) {}, "secret": secret, "most readers": func(p *Put) { secret(p); p.Readers = readers(MaxReaders) }, "recovery": func(p *Put) { secret(p); p.Readers = []Reader{{Kind: ByRecovery, Key: fleet.ID{1}}} },
		"largest": func(p *Put) { p.Tier, p.Size = Advanced, MaxAdvanced }, "largest standard": func(p *Put) { p.Size = MaxStandard }, "most labels": func(p *Put) { p.Labels, p.Seq = labels(MaxVersionLabels), 1 },
		"most tags": func(p *Put) { p.Tags = tags(fleet.MaxTags) }, "policies": func(p *Put) { p.Tier, p.Policies = Advanced, policies(MaxPolicies) }, "description": func(p *Put) { p.Description = strings.Repeat("ä", MaxDescription) },
		"pattern": func(p *Put) { p.Pattern = strings.Repeat("ä", MaxPattern) }, "image": func(p *Put) { p.DataType = DataImage }, "rotation": rotated(Rotation{"Rotate", "tag.role=db", 30 * day, 32}), "by hand": rotated(Rotation{Document: "Rotate", Target: "all"}),
	} {
		p := changed(good, change)
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		change func(*Put)
		want   string
	}{
		"name": {func(p *Put) { p.Name = "/P" }, "one spelling"}, "no name": {func(p *Put) { p.Name = "" }, "needs a name"}, "reserved": {func(p *Put) { p.Name = "/aws/x" }, "aws"}, "public": {func(p *Put) { p.Name = "/muster/public/x" }, "comes with muster"},
		"public itself": {func(p *Put) { p.Name = PublicPath }, "comes with muster"},
		"born":          {func(p *Put) { p.Born = 0 }, "no time"}, "born late": {func(p *Put) { p.Born = auth.MaxTime + 1 }, "no time"}, "version": {func(p *Put) { p.Version = 0 }, "version 0"}, "last version": {func(p *Put) { p.Version = 1<<32 - 1 }, "version 4294967295"},
		"type": {func(p *Put) { p.Type = 4 }, "UnsupportedParameterType"}, "tier": {func(p *Put) { p.Tier = 3 }, "tier 3"}, "data": {func(p *Put) { p.DataType = "" }, "data type"}, "image list": {func(p *Put) { p.Type, p.DataType = StringList, DataImage }, "data type"},
		"digest": {func(p *Put) { p.Digest = fleet.ID{} }, "digest"}, "empty": {func(p *Put) { p.Size = 0 }, "empty"}, "large": {func(p *Put) { p.Size = MaxStandard + 1 }, "takes 4096"}, "larger": {func(p *Put) { p.Tier, p.Size = Advanced, MaxAdvanced+1 }, "takes 65536"},
		"largest": {func(p *Put) { p.Size = 1<<32 - 1 }, "takes 4096"}, "unpadded": {func(p *Put) { secret(p); p.Size = 65 }, "padded"}, "description": {func(p *Put) { p.Description = strings.Repeat("x", MaxDescription+1) }, "description"},
		"description bytes": {func(p *Put) { p.Description = "\xff" }, "description"}, "pattern": {func(p *Put) { p.Pattern = strings.Repeat("x", MaxPattern+1) }, "InvalidAllowedPatternException"}, "policy": {func(p *Put) { p.Policies = policies(1) }, "Advanced"},
		"policies": {func(p *Put) { p.Tier, p.Policies = Advanced, policies(MaxPolicies+1) }, "PoliciesLimitExceededException"}, "bad policy": {func(p *Put) { p.Tier, p.Policies = Advanced, []Policy{{}} }, "InvalidPolicyTypeException"},
		"tags": {func(p *Put) { p.Tags = tags(fleet.MaxTags + 1) }, "tags"}, "tag": {func(p *Put) { p.Tags = map[string]string{" ": ""} }, "tag"}, "labels": {func(p *Put) { p.Labels, p.Seq = labels(MaxVersionLabels+1), 1 }, "ParameterVersionLabelLimitExceeded"},
		"label": {func(p *Put) { p.Labels, p.Seq = []string{"1"}, 1 }, "InvalidLabels"}, "label twice": {func(p *Put) { p.Labels, p.Seq = []string{"a", "a"}, 1 }, "twice"}, "no count": {func(p *Put) { p.Labels = labels(1) }, "counts"}, "count": {func(p *Put) { p.Seq = 1 }, "counts"},
		"readers": {func(p *Put) { p.Readers = readers(1) }, "no secret"}, "no readers": {func(p *Put) { secret(p); p.Readers = nil }, "InvalidKeyId"}, "many readers": {func(p *Put) { secret(p); p.Readers = readers(MaxReaders + 1) }, "InvalidKeyId"},
		"reader twice": {func(p *Put) { secret(p); p.Readers = append(p.Readers, p.Readers[0]) }, "twice"}, "reader": {func(p *Put) { secret(p); p.Readers[0].Kind = 9 }, "no reader"}, "no key": {func(p *Put) { secret(p); p.Readers[0].Key = fleet.ID{} }, "no reader"},
		"no life": {func(p *Put) { secret(p); p.Readers[0].Life = fleet.UUID{} }, "no reader"}, "no epoch": {func(p *Put) { secret(p); p.Readers[0].Epoch = 0 }, "no reader"}, "operator with life": {func(p *Put) { secret(p); p.Readers[0].Kind = ByOperator }, "no reader"},
		"named recovery": {func(p *Put) { secret(p); p.Readers = []Reader{{Kind: ByRecovery, Name: "x", Key: fleet.ID{1}}} }, "no reader"}, "nameless operator": {func(p *Put) { secret(p); p.Readers = []Reader{{Kind: ByOperator, Key: fleet.ID{1}}} }, "no reader"},
		"rotation": {func(p *Put) { p.Rotation = []Rotation{{Document: "R", Target: "all"}} }, "only a secret"}, "no document": {rotated(Rotation{Target: "all"}), "document"}, "no target": {rotated(Rotation{Document: "R"}), "target"},
		"odd": {rotated(Rotation{"R", "all", 1, 0}), "hours"}, "rare": {rotated(Rotation{"R", "all", 367 * day, 0}), "hours"}, "long": {rotated(Rotation{"R", "all", 0, MaxGenerated + 1}), "at most"},
		"two": {func(p *Put) { secret(p); p.Rotation = make([]Rotation, 2) }, "in one way"},
	} {
		err := changed(good, c.change).Check()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

func TestLargestOp(t *testing.T) {
	p, _ := plainPut("/"+strings.Repeat("a", MaxName-3)+"/b", 1, "x")
	secret(p)
	p.Description, p.Pattern = strings.Repeat("𝄞", MaxDescription), strings.Repeat("𝄞", MaxPattern)
	p.Tier, p.Policies, p.Readers = Advanced, policies(MaxPolicies), readers(MaxReaders)
	p.Labels, p.Seq = nil, 1
	for i := range MaxVersionLabels {
		p.Labels = append(p.Labels, strings.Repeat("l", MaxLabel-1)+fmt.Sprint(i))
	}
	p.Tags = map[string]string{}
	for i := range fleet.MaxTags {
		p.Tags[fmt.Sprintf("%0128d", i)] = strings.Repeat("v", fleet.MaxTagValue)
	}
	p.Rotation = []Rotation{{strings.Repeat("d", 128), strings.Repeat("t", fleet.MaxTarget), 30 * day, MaxGenerated}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	_, bodies := Commit(auth.Header{}, []Op{salted(Op{Put: []Put{*p}})})
	if len(bodies[0]) > MaxOp || len(bodies[0]) < MaxOp/2 {
		t.Errorf("the largest operation has %d bytes; the bound is %d", len(bodies[0]), MaxOp)
	}
	if _, err := DecodeOp(bodies[0]); err != nil {
		t.Error(err)
	}
	c := Change{Ops: make([]fleet.ID, MaxOps)}
	if raw := len(wire.Marshal(c)); raw > MaxSigned {
		t.Errorf("the largest change has %d bytes; the bound is %d", raw, MaxSigned)
	}
}

func TestChangeOpen(t *testing.T) {
	h := auth.Header{ID: fleet.UUID{1}, Issued: born, Expires: born + ChangeLife}
	one, _ := plainPut("/a", 1, "x")
	one.Name = "a"
	two, _ := plainPut("/b/c", 4, "x")
	del := Delete{Name: "d", Born: 5, Version: 1}
	label := Label{Name: "e", Born: 5, Seq: 1, Version: 1, Add: []string{"x"}}
	good := []Op{salted(Op{Put: []Put{*one}}), salted(Op{Put: []Put{*two}}), salted(Op{Delete: []Delete{del}}), salted(Op{Label: []Label{label}})}
	c, bodies := Commit(h, good)
	ops, err := c.Open(bodies)
	if err != nil || len(ops) != 4 || ops[0].Name() != "a" || ops[1].Name() != "/b/c" || ops[2].Name() != "d" || ops[3].Name() != "e" {
		t.Fatal(ops, err)
	}
	try := func(name, want string, h auth.Header, ops []Op, spoil func([][]byte) [][]byte) {
		t.Helper()
		c, bodies := Commit(h, ops)
		if spoil != nil {
			bodies = spoil(bodies)
		}
		if _, err := c.Open(bodies); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", name, err, want)
		}
	}
	put := func(p *Put) []Op { return []Op{salted(Op{Put: []Put{*p}})} }
	lab := func(change func(*Label)) []Op {
		l := label
		change(&l)
		return []Op{salted(Op{Label: []Label{l}})}
	}
	try("no operations", "1 to 100", h, nil, nil)
	try("too many", "1 to 100", h, make([]Op, MaxOps+1), nil)
	try("no end", "expire within", auth.Header{Issued: born}, good, nil)
	try("long life", "expire within", auth.Header{Issued: born, Expires: born + ChangeLife + 1}, good, nil)
	try("over at once", "expire within", auth.Header{Issued: born, Expires: born}, good, nil)
	try("no time", "no time", auth.Header{Issued: -1, Expires: 5}, good, nil)
	try("far", "no time", auth.Header{Issued: 1 << 62, Expires: 1<<62 + 5}, good, nil)
	try("swapped", "not what was signed", h, good, func(b [][]byte) [][]byte { return [][]byte{b[1], b[0], b[2], b[3]} })
	try("one less", "of which 3", h, good, func(b [][]byte) [][]byte { return b[:3] })
	try("one more", "of which 5", h, good, func(b [][]byte) [][]byte { return append(b, b[0]) })
	try("same twice", "two operations", h, append(put(one), put(one)...), nil)
	try("put and delete", "two operations", h, []Op{good[0], salted(Op{Delete: []Delete{{Name: "a", Born: 5, Version: 1}}})}, nil)
	try("nothing", "exactly one thing", h, []Op{{Salt: fleet.UUID{1}}}, nil)
	try("two things", "exactly one thing", h, []Op{salted(Op{Put: []Put{*one}, Delete: []Delete{del}})}, nil)
	try("two puts", "exactly one thing", h, []Op{salted(Op{Put: []Put{*one, *two}})}, nil)
	try("no salt", "salt", h, []Op{{Put: []Put{*one}}}, nil)
	try("born elsewhere", "born when", h, put(changed(one, func(p *Put) { p.Born++ })), nil)
	try("over before", "would have expired", h, put(changed(one, func(p *Put) { p.Tier, p.Policies = Advanced, []Policy{{Kind: Expiration, At: born}} })), nil)
	try("bad put", "type", h, put(changed(one, func(p *Put) { p.Type = 9 })), nil)
	try("delete", "newest", h, []Op{salted(Op{Delete: []Delete{{Name: "d", Born: 5}}})}, nil)
	try("delete where", "one spelling", h, []Op{salted(Op{Delete: []Delete{{Name: "/d", Born: 5, Version: 1}}})}, nil)
	try("uncounted", "without its number", h, lab(func(l *Label) { l.Seq = 0 }), nil)
	try("no label", "no label", h, lab(func(l *Label) { l.Add = nil }), nil)
	try("to nothing", "go to a version", h, lab(func(l *Label) { l.Version = 0 }), nil)
	try("many labels", "ParameterVersionLabelLimitExceeded", h, lab(func(l *Label) { l.Add = labels(MaxVersionLabels + 1) }), nil)
	try("many removed", "at most 10", h, lab(func(l *Label) { l.Remove = labels(MaxRemoved + 1) }), nil)
	try("bad label", "InvalidLabels", h, lab(func(l *Label) { l.Add = []string{"1"} }), nil)
	try("both", "twice", h, lab(func(l *Label) { l.Remove = l.Add }), nil)
	big := make([]Op, 0, MaxOps)
	for i := range MaxOps {
		big = append(big, put(changed(one, func(p *Put) { p.Name, p.Description = fmt.Sprint("p", i), strings.Repeat("x", MaxDescription) }))...)
		big[i].Put[0].Pattern = strings.Repeat("y", MaxPattern)
	}
	try("large", "at most 196608", h, big, nil)
	for i, body := range bodies {
		for j := range body {
			bad := append([]byte{}, body...)
			bad[j] ^= 0x10
			if _, err := c.openOp(uint32(i), bad); err == nil {
				t.Fatalf("byte %d of operation %d may change", j, i)
			}
		}
	}
}

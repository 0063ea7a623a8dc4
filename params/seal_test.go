package params

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/muster-fleet/muster/node/fleet"
)

// keyPair returns a private key that follows from a label, and its public key.
func keyPair(label string) (private, public []byte) {
	seed := sha256.Sum256([]byte(label))
	public, err := PublicOf(seed[:])
	if err != nil {
		panic(err)
	}
	return seed[:], public
}

func place() Binding {
	return Binding{Fleet: fleet.ID{7}, Name: "/db/password", Born: born, Version: 3}
}

// sealedFor seals for a keyring, an operator and recovery.
func sealedFor(t failer, b Binding, value string) (Sealed, []Reader) {
	t.Helper()
	var to []Recipient
	for _, r := range []Reader{
		{Kind: ByKeyring, Name: "web", Life: fleet.UUID{4}, Epoch: 2}, {Kind: ByOperator, Name: "ada"}, {Kind: ByRecovery},
	} {
		_, public := keyPair(r.String())
		to = append(to, Recipient{r, public})
	}
	s, readers, err := Seal(b, []byte(value), [32]byte{1, 2, 3}, to)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s, readers
}

type failer interface {
	Helper()
	Fatalf(string, ...any)
}

func TestSealOpen(t *testing.T) {
	s, readers := sealedFor(t, place(), "hunter2")
	for i, r := range readers {
		private, public := keyPair(r.String())
		if r.Key != fleet.Sum(public) {
			t.Errorf("%s: its key is not named", r)
		}
		if at, err := ReaderWith(readers, r.Key); err != nil || at != i {
			t.Errorf("%s: %d, %v", r, at, err)
		}
		if got, err := s.Open(place(), readers, i, private); err != nil || string(got) != "hunter2" {
			t.Errorf("%s: %q, %v", r, got, err)
		}
	}
	put := Put{Name: "/db/password", Born: born, Version: 3, Type: SecureString, DataType: DataText, Tier: Standard, Size: uint32(SealedSize(7)), Readers: readers}
	raw := SealedContent(s).Encode()
	put.Digest = fleet.Sum(raw)
	if c, err := put.Open(raw); err != nil || put.Check() != nil {
		t.Error(err, put.Check())
	} else if private, _ := keyPair("operator:ada"); string(must(c.Sealed[0].Open(place(), readers, 1, private))) != "hunter2" {
		t.Error("it does not survive its encoding")
	}
	if bytes.Contains(raw, []byte("hunter2")) {
		t.Error("the value shows")
	}
}

func must(value []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return value
}

// Every reason has an error of its own.
func TestOpenSaysWhy(t *testing.T) {
	s, readers := sealedFor(t, place(), "hunter2")
	private, _ := keyPair("keyring:web")
	stranger, strange := keyPair("stranger")
	_, err := ReaderWith(readers, fleet.Sum(strange))
	wants(t, "no reader", err, fleet.Denied, "this is no reader of the secret; its readers are keyring:web, operator:ada, recovery")
	for _, at := range []int{-1, 3} {
		_, err = s.Open(place(), readers, at, private)
		wants(t, "no place", err, fleet.Denied, "is not sealed for this reader; its readers are keyring:web")
	}
	_, err = s.Open(place(), readers[:2], 0, private)
	wants(t, "fewer readers", err, fleet.Denied, "is not sealed for this reader")
	for _, key := range [][]byte{stranger, nil, private[:31]} {
		_, err = s.Open(place(), readers, 0, key)
		wants(t, "missing key", err, fleet.Denied, "the key at hand is not that of keyring:web epoch 2")
	}
	for name, move := range map[string]func(*Binding){
		"fleet": func(b *Binding) { b.Fleet[0]++ }, "path": func(b *Binding) { b.Name = "/db/passwore" }, "life": func(b *Binding) { b.Born++ }, "version": func(b *Binding) { b.Version++ }, "no name": func(b *Binding) { b.Name = "" },
	} {
		elsewhere := place()
		move(&elsewhere)
		_, err = s.Open(elsewhere, readers, 0, private)
		wants(t, name, err, fleet.Denied, "moved here")
		// Also where the mover has mended what is not secret: the hash of the place, and the sum.
		forged := Sealed{bytes.Clone(s.Box), s.Wraps}
		hash := sha256.Sum256(elsewhere.encode())
		copy(forged.Box[1+sha256.Size:], hash[:])
		mend(forged)
		_, err = forged.Open(elsewhere, readers, 0, private)
		wants(t, name, err, fleet.Invalid, "tampered")
	}
	// A reader's own fields are bound, too: nobody can give one reader's wrap to another name or epoch with the same key.
	for name, change := range map[string]func(*Reader){
		"kind": func(r *Reader) { r.Kind = ByOperator }, "name": func(r *Reader) { r.Name = "db" }, "life": func(r *Reader) { r.Life[0]++ }, "epoch": func(r *Reader) { r.Epoch++ },
	} {
		others := append([]Reader{}, readers...)
		change(&others[0])
		_, err = s.Open(place(), others, 0, private)
		wants(t, name, err, fleet.Invalid, "the key in it does not open")
	}
	other, _ := sealedFor(t, place(), "hunter3")
	swapped := Sealed{bytes.Clone(s.Box), other.Wraps}
	_, err = swapped.Open(place(), readers, 0, private)
	wants(t, "wraps of another", err, fleet.Invalid, "its sum")
	exchanged := Sealed{bytes.Clone(s.Box), [][]byte{s.Wraps[1], s.Wraps[0], s.Wraps[2]}}
	mend(exchanged)
	_, err = exchanged.Open(place(), readers, 0, private)
	wants(t, "wraps exchanged", err, fleet.Invalid, "the key in it does not open")
}

// mend makes the sum right after a change.
func mend(s Sealed) {
	sum := s.sum()
	copy(s.Box[1:], sum[:])
}

// No byte of what is kept may change unseen, whether or not the sum is mended.
func TestEveryByteCounts(t *testing.T) {
	s, readers := sealedFor(t, place(), "hunter2")
	private, _ := keyPair("keyring:web")
	try := func(what string, bad Sealed) {
		t.Helper()
		got, err := bad.Open(place(), readers, 0, private)
		if err == nil {
			t.Fatalf("%s: opened as %q", what, got)
		}
		if e, ok := errors.AsType[*fleet.Error](err); !ok || e.Kind != fleet.Invalid && e.Kind != fleet.Denied {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for i := range s.Box {
		bad := Sealed{bytes.Clone(s.Box), s.Wraps}
		bad.Box[i] ^= 1 << (i % 8)
		try(fmt.Sprint("byte ", i, " of the box"), bad)
		if i > sha256.Size {
			mend(bad)
			try(fmt.Sprint("byte ", i, " of the box, with its sum"), bad)
		}
	}
	for i := range s.Wraps[0] {
		bad := Sealed{bytes.Clone(s.Box), [][]byte{bytes.Clone(s.Wraps[0]), s.Wraps[1], s.Wraps[2]}}
		bad.Wraps[0][i] ^= 1 << (i % 8)
		if i%16 == 0 {
			try(fmt.Sprint("byte ", i, " of the wrap"), bad)
		}
		mend(bad)
		try(fmt.Sprint("byte ", i, " of the wrap, with its sum"), bad)
	}
	for n := range len(s.Box) {
		if n > 1+sha256.Size && n%8 == 0 {
			short := Sealed{bytes.Clone(s.Box[:n]), s.Wraps}
			mend(short)
			try(fmt.Sprint("a box of ", n), short)
		}
		if n%8 == 0 {
			try(fmt.Sprint("a box of ", n), Sealed{s.Box[:n], s.Wraps})
		}
	}
}

// A writer cannot make one secret that says one thing to one reader and another to the next.
func TestOneKeyForAll(t *testing.T) {
	s, readers := sealedFor(t, place(), "hunter2")
	_, public := keyPair("keyring:web")
	wrap, err := sealTo(public, place().info(readers[0]), make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	s.Wraps[0] = wrap
	mend(s)
	private, _ := keyPair("keyring:web")
	_, err = s.Open(place(), readers, 0, private)
	wants(t, "another key", err, fleet.Invalid, "another key")
}

func TestLengthDoesNotShow(t *testing.T) {
	sizes := map[int]int{1: 64, 64: 64, 65: 128, 128: 128, 4095: 4096, 4096: 4096, 4097: 8192, MaxAdvanced: MaxAdvanced}
	for n, want := range sizes {
		s, readers := sealedFor(t, place(), strings.Repeat("x", n))
		if SealedSize(n) != want || len(s.Box) != boxOverhead+want || len(s.Wraps[0]) != wrapSize {
			t.Errorf("%d bytes: padded to %d, a box of %d, a wrap of %d", n, SealedSize(n), len(s.Box), len(s.Wraps[0]))
		}
		private, _ := keyPair("operator:ada")
		if got, err := s.Open(place(), readers, 1, private); err != nil || len(got) != n {
			t.Errorf("%d bytes came back as %d, %v", n, len(got), err)
		}
	}
}

// Even a key that is used twice does not repeat a nonce for two values.
func TestNonceFollowsValue(t *testing.T) {
	nonce := func(value string, b Binding) string {
		return string(b.box([]byte(value), [32]byte{1})[headSize-nonceSize : headSize])
	}
	elsewhere := place()
	elsewhere.Version++
	first, again := nonce("a", place()), nonce("a", place())
	if first != again || first == nonce("b", place()) || first == nonce("a", elsewhere) {
		t.Error("the nonce does not follow from value and place")
	}
}

func TestSealRefuses(t *testing.T) {
	_, public := keyPair("x")
	_, other := keyPair("y")
	good := Recipient{Reader{Kind: ByRecovery}, public}
	for name, c := range map[string]struct {
		value []byte
		to    []Recipient
		want  string
	}{
		"nothing": {nil, []Recipient{good}, "secret of 0 bytes"}, "too much": {make([]byte, MaxAdvanced+1), []Recipient{good}, "1 to 65536"}, "nobody": {[]byte("x"), nil, "InvalidKeyId"}, "too many": {[]byte("x"), make([]Recipient, MaxReaders+1), "InvalidKeyId"},
		"another key": {[]byte("x"), []Recipient{{Reader{Kind: ByRecovery, Key: fleet.Sum(other)}, public}}, "not the public key"}, "no key": {[]byte("x"), []Recipient{{Reader{Kind: ByRecovery}, nil}}, "InvalidKeyId"}, "half a key": {[]byte("x"), []Recipient{{Reader{Kind: ByRecovery}, public[1:]}}, "InvalidKeyId"},
		"nonsense": {[]byte("x"), []Recipient{{Reader{Kind: ByRecovery}, bytes.Repeat([]byte{0xff}, PublicSize)}}, "InvalidKeyId"}, "zeros": {[]byte("x"), []Recipient{{Reader{Kind: ByRecovery}, make([]byte, PublicSize)}}, "InvalidKeyId"},
		"no reader": {[]byte("x"), []Recipient{{Reader{Kind: ByKeyring, Name: "web"}, public}}, "no reader"},
	} {
		s, readers, err := Seal(place(), c.value, [32]byte{}, c.to)
		wants(t, name, err, fleet.Invalid, c.want)
		if s.Box != nil || readers != nil {
			t.Errorf("%s: something was sealed", name)
		}
	}
}

func TestSealProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "value")
		draw := func(label string) Binding {
			return Binding{fleet.ID{rapid.Byte().Draw(t, label)}, rapid.SampledFrom([]string{"a", "b", "/a/b"}).Draw(t, label), rapid.Int64Range(1, 3).Draw(t, label), rapid.Uint32Range(1, 3).Draw(t, label)}
		}
		from, to := draw("from"), draw("to")
		s, readers := sealedFor(t, from, string(value))
		private, _ := keyPair("operator:ada")
		got, err := s.Open(to, readers, 1, private)
		if (err == nil) != (from == to) || err == nil && !bytes.Equal(got, value) {
			t.Fatalf("sealed for %+v, opened for %+v: %q, %v", from, to, got, err)
		}
	})
}

func TestSeeds(t *testing.T) {
	seed, public := keyPair("epoch")
	private, to := keyPair("member")
	b := SeedBinding{Fleet: fleet.ID{1}, Keyring: "web", Life: fleet.UUID{2}, Number: 3}
	box, err := SealSeed(b, seed, to)
	if err != nil || len(box) != SealedSeedSize {
		t.Fatalf("%d bytes, %v", len(box), err)
	}
	got, err := OpenSeed(b, box, private)
	if err != nil || !bytes.Equal(got, seed) || CheckSeed(got, public) != nil {
		t.Fatal(got, err, CheckSeed(got, public))
	}
	wants(t, "another seed", CheckSeed(private, public), fleet.Denied, "not that of key")
	for name, change := range map[string]func(*SeedBinding){
		"fleet": func(b *SeedBinding) { b.Fleet[0]++ }, "keyring": func(b *SeedBinding) { b.Keyring = "db" }, "life": func(b *SeedBinding) { b.Life[0]++ }, "number": func(b *SeedBinding) { b.Number++ },
	} {
		other := b
		change(&other)
		_, err := OpenSeed(other, box, private)
		wants(t, name, err, fleet.Denied, "does not open")
	}
	_, err = OpenSeed(b, box, seed)
	wants(t, "another member", err, fleet.Denied, "does not open")
	for i := range box {
		bad := bytes.Clone(box)
		bad[i] ^= 1
		if _, err := OpenSeed(b, bad, private); err == nil {
			t.Fatalf("byte %d may change", i)
		}
	}
	for _, n := range []int{0, 1, SealedSeedSize - 1} {
		_, err = OpenSeed(b, box[:n], private)
		wants(t, "short", err, fleet.Invalid, "sealed seed of")
	}
	for name, err := range map[string]error{
		"short seed": second(SealSeed(b, seed[1:], to)), "short key": second(SealSeed(b, seed, to[1:])), "short private": second(OpenSeed(b, box, private[1:])), "no private": second(PublicOf(nil)),
		"public": CheckPublic(public[1:]), "root": second(RecoveryPrivate(nil)), "node": second(NodePrivate(nil)), "check": CheckSeed(nil, public),
	} {
		wants(t, name, err, fleet.Invalid, "")
	}
	if err := CheckPublic(public); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// The recovery key on paper opens what was sealed for recovery, years later: its derivation may never change.
func TestRecoveryPrivate(t *testing.T) {
	root := ed25519.NewKeyFromSeed(make([]byte, 32)).Seed()
	private, err := RecoveryPrivate(root)
	if err != nil || fmt.Sprintf("%x", private) != recoveryOfZeros {
		t.Errorf("%x, %v", private, err)
	}
	node, err := NodePrivate(make([]byte, 32))
	if err != nil || bytes.Equal(node, private) || fmt.Sprintf("%x", node) != nodeOfZeros {
		t.Errorf("%x, %v", node, err)
	}
	if bytes.Equal(private, root) {
		t.Error("the root's own seed opens secrets")
	}
}

// What the derivations made of 32 zeros when they were written.
const (
	recoveryOfZeros = "4e9924aa2fad8148ac6e5135a53b9c4ab81872ac51c77e5a8e3d8904d4b7a7ac"
	nodeOfZeros     = "e336a1832136cff3b39d11431b4f8e6affecc6d7bef5002ada9254320ec7e363"
)

// What was sealed by the first version opens for ever. The files were written by it.
func TestSealedStaysReadable(t *testing.T) {
	c, err := DecodeContent(kept(t, "sealed-1"))
	if err != nil {
		t.Fatal(err)
	}
	_, readers := sealedFor(t, place(), "x")
	for i, r := range readers {
		private, _ := keyPair(r.String())
		if got, err := c.Sealed[0].Open(place(), readers, i, private); err != nil || string(got) != "hunter2" {
			t.Errorf("%s: %q, %v", r, got, err)
		}
	}
	private, _ := keyPair("member")
	if got, err := OpenSeed(SeedBinding{Fleet: fleet.ID{1}, Keyring: "web", Life: fleet.UUID{2}, Number: 3}, kept(t, "seed-1"), private); err != nil || len(got) != PrivateSize {
		t.Error(got, err)
	}
}

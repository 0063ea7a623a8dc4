package hostile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// claims are headers of msgpack with the largest length that they can claim.
var claims = []string{
	"\xc4\xff", "\xc5\xff\xff", "\xc6\xff\xff\xff\xff", "\xc6\x7f\xff\xff\xff", // bytes
	"\xd9\xff", "\xda\xff\xff", "\xdb\xff\xff\xff\xff", "\xdb\x7f\xff\xff\xff", // text
	"\xdc\xff\xff", "\xdd\xff\xff\xff\xff", "\xdd\x00\x0f\xff\xff", // arrays
	"\xde\xff\xff", "\xdf\xff\xff\xff\xff", "\xdf\x00\x0f\xff\xff", // maps
	"\xc7\xff\x01", "\xc8\xff\xff\x01", "\xc9\xff\xff\xff\xff\x01", // extensions
}

// fillings are items of arrays and maps that take few bytes.
var fillings = []string{"\xc0", "\x00", "\x80", "\x90", "\xa0", "\xc2", "\xc4\x00", "\x91\xc0", "\x81\xa0\xc0", "\xa1a\xc0"}

// Inputs yields hostile msgpack, and damaged samples, of at most most bytes, each with a name. samples are what the real
// encoder makes; bytes within them that are msgpack themselves are looked into.
func Inputs(most int, samples ...[]byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for name, in := range all(most, samples) {
			if len(in) <= most && !yield(name, in) {
				return
			}
		}
	}
}

func all(most int, samples [][]byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for name, in := range bare(most) {
			if !yield(name, in) {
				return
			}
		}
		for i, sample := range samples {
			for name, in := range damaged(sample) {
				if !yield(fmt.Sprintf("sample %d, %s", i, name), in) {
					return
				}
			}
			for name, in := range swollen(most, sample) {
				if !yield(fmt.Sprintf("sample %d, %s", i, name), in) {
					return
				}
			}
		}
	}
}

// bare yields what needs no sample.
func bare(most int) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for b := range 256 {
			if !yield(fmt.Sprintf("byte %02x", b), []byte{byte(b)}) || !yield(fmt.Sprintf("all bytes %02x", b), bytes.Repeat([]byte{byte(b)}, most)) {
				return
			}
		}
		for _, claim := range claims {
			if !yield(fmt.Sprintf("claim %x", claim), []byte(claim)) {
				return
			}
		}
		for _, nest := range []string{"\x91", "\x81\xa0", "\xdc\x00\x01", "\x92\xc0", "\xdd\x00\x00\x00\x01"} {
			if !yield(fmt.Sprintf("nested %x", nest), bytes.Repeat([]byte(nest), most/len(nest))) {
				return
			}
		}
		for name, in := range Full(most) {
			if !yield(name, in) {
				return
			}
		}
		noise := make([]byte, most)
		random := rand.NewChaCha8([32]byte{'h'})
		for i := range 8 {
			_, _ = random.Read(noise)
			if !yield(fmt.Sprintf("noise %d", i), noise) {
				return
			}
		}
		if !yield("nothing", nil) {
			return
		}
	}
}

// Full yields arrays and maps of about most bytes, full of items that take few.
func Full(most int) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, item := range fillings {
			n := (most - 5) / len(item)
			if n < 1 {
				continue
			}
			in := binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(n))
			if !yield(fmt.Sprintf("array of %x", item), append(in, strings.Repeat(item, n)...)) {
				return
			}
			in = binary.BigEndian.AppendUint32([]byte{0xdf}, uint32(n/2))
			if !yield(fmt.Sprintf("map of %x", item), append(in, strings.Repeat(item, n/2*2)...)) {
				return
			}
		}
	}
}

// damaged yields a sample cut, with flipped bytes, and with claims at every place, two of them at each.
func damaged(sample []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		step := max(1, len(sample)/256)
		for at := 0; at < len(sample); at += step {
			if !yield(fmt.Sprintf("cut at %d", at), sample[:at]) {
				return
			}
			bent := bytes.Clone(sample)
			bent[at] ^= 0x81
			if !yield(fmt.Sprintf("bent at %d", at), bent) {
				return
			}
			first, second := claims[at%len(claims)], claims[(5*at+7)%len(claims)]
			if !yield(fmt.Sprintf("claim %x at %d", first, at), append(sample[:at:at], first...)) ||
				!yield(fmt.Sprintf("claim %x over %d", second, at), overwrite(sample, at, second)) {
				return
			}
		}
		if !yield("whole", sample) || !yield("twice", slices.Concat(sample, sample)) {
			return
		}
	}
}

func overwrite(sample []byte, at int, with string) []byte {
	out := bytes.Clone(sample)
	copy(out[at:], with)
	return out
}

// maxParts bounds how many parts of a sample are swollen: the first ones, which are the outer ones and one of each kind.
const maxParts = 96

// swollen yields a sample with each of its parts in turn replaced by a full array or map, and with each array's first
// item repeated, as far as most allows.
func swollen(most int, sample []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for _, p := range parts(sample) {
			room := most - len(sample) - 64
			if room < 16 {
				return
			}
			for name, full := range Full(room) {
				if !yield(fmt.Sprintf("%s in place of %v", name, p), p.replace(sample, full)) {
					return
				}
			}
			if n := room / max(1, p.end-p.start); n > 1 { // an array of the part itself
				in := binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(n))
				in = append(in, bytes.Repeat(p.of(sample), n)...)
				if !yield(fmt.Sprintf("many of %v in its place", p), p.replace(sample, in)) {
					return
				}
			}
		}
	}
}

package report

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"os"

	"github.com/muster-fleet/muster/node/fleet"
)

// Parts of bbolt's file format 2, which is in the host's byte order. A page begins {u64 id, u16 flags, u16 count, u32
// further pages}. A meta page goes on {u32 magic, u32 version, u32 page size, u32 flags, u64 root, u64 sequence, u64
// freelist, u64 pages, u64 transaction, u64 FNV-1a of what is before}. A branch or leaf page goes on with its elements,
// {u32 position of the key from here, u32 its size, u64 child} or {u32 flags, u32 position, u32 key size, u32 value size}.
// The value of a bucket is {u64 root, u64 sequence}, and where root is 0 a leaf page follows.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2
	boltMeta    = 64
	pageHead    = 16
	element     = 16
	bucketHead  = 16
	flagBranch  = 1
	flagLeaf    = 2
	flagBucket  = 1  // of a leaf's element
	maxHeight   = 32 // of a tree: far above what fits into a file
	minPage     = 1 << 10
	maxPage     = 64 << 10
)

var native = binary.NativeEndian

// examine reads the whole structure of the file, but not the values, before bbolt works with it: on a bad page bbolt
// panics, also on goroutines of its own, or loops until memory is gone. It returns damage, or an error for people.
func examine(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	x := &examination{f: f}
	root, err := x.meta(info.Size())
	if err != nil {
		return err
	}
	x.seen = make([]uint64, x.pages/64+1)
	return x.store(root)
}

type examination struct {
	f     *os.File
	size  int64  // of a page
	pages uint64 // how many are in use or free
	seen  []uint64
}

// meta finds the newest meta page that is whole, and returns the root page it names.
func (x *examination) meta(fileSize int64) (root uint64, err error) {
	at, newest, found := int64(0), uint64(0), false
	for range 2 {
		raw := make([]byte, pageHead+boltMeta)
		if _, err := x.f.ReadAt(raw, at); err != nil {
			return 0, damagef("its meta pages are cut off")
		}
		m := raw[pageHead:]
		sum := fnv.New64a()
		sum.Write(m[:boltMeta-8])
		whole := native.Uint32(m) == boltMagic && native.Uint32(m[4:]) == boltVersion && native.Uint64(m[56:]) == sum.Sum64()
		if tx := native.Uint64(m[48:]); whole && (!found || tx > newest) {
			found, newest = true, tx
			x.size, root, x.pages = int64(native.Uint32(m[8:])), native.Uint64(m[16:]), native.Uint64(m[40:])
		}
		if at = int64(os.Getpagesize()); found {
			at = x.size
		}
	}
	switch {
	case !found:
		return 0, damagef("neither meta page is whole")
	case x.size < minPage || x.size > maxPage || x.pages > uint64(fileSize/x.size):
		return 0, damagef("it has %d bytes and should have %d pages of %d", fileSize, x.pages, x.size)
	}
	return root, nil
}

// store looks at what the buckets hold.
func (x *examination) store(root uint64) error {
	buckets := map[string]bucketRef{}
	var layout []byte
	err := x.tree(bucketRef{root: root}, func(k []byte, v section) error {
		if len(k) > 16 || !v.bucket {
			return damagef("it holds something that is no bucket of ours")
		}
		ref, err := v.ref()
		buckets[string(k)] = ref
		return err
	})
	if err != nil || len(buckets) == 0 { // none: a crash before the first transaction
		return err
	}
	for _, name := range [][]byte{bucketMeta, bucketReports, bucketFacts, bucketAge} {
		if _, ok := buckets[string(name)]; !ok {
			return damagef("the bucket %s is missing", name)
		}
	}
	err = x.tree(buckets[string(bucketMeta)], func(k []byte, v section) (err error) {
		if bytes.Equal(k, keyFormat) && v.size == 1 {
			layout, err = v.bytes(0, 1)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case len(layout) != 1:
		return damagef("it does not say its format")
	case layout[0] != format:
		return fleet.Errorf(fleet.Invalid, "it has format %d; this version reads %d", layout[0], format).
			Hinted("run the version of muster that wrote it, or move the file away: the store then begins empty")
	}
	return x.contents(buckets)
}

func (x *examination) contents(buckets map[string]bucketRef) error {
	entries := func(k []byte, v section) error {
		return wanted(!v.bucket && len(k) == len(fleet.ID{}) && v.size >= entryHead && v.size <= maxEntry)
	}
	commands, indexed := 0, 0
	err := x.tree(buckets[string(bucketReports)], func(k []byte, v section) error {
		commands++
		if !v.bucket || len(k) != len(fleet.UUID{}) {
			return wanted(false)
		}
		ref, err := v.ref()
		if err != nil {
			return err
		}
		return x.tree(ref, entries)
	})
	if err == nil {
		err = x.tree(buckets[string(bucketFacts)], entries)
	}
	if err == nil {
		err = x.tree(buckets[string(bucketAge)], func(k []byte, v section) error {
			indexed++
			return wanted(!v.bucket && len(k) == 8+len(fleet.UUID{}) && v.size == 0)
		})
	}
	if err == nil && commands != indexed {
		err = damagef("%d commands, and %d in the index", commands, indexed)
	}
	return err
}

func wanted(ok bool) error {
	if !ok {
		return damagef("a key or value is none of ours")
	}
	return nil
}

// section is a part of the file: a page with those that belong to it, or a value.
type section struct {
	x      *examination
	off    int64
	size   int64
	head   []byte // its beginning, read already
	bucket bool   // a value that is a bucket
}

func (s section) bytes(at, n int64) ([]byte, error) {
	if at < 0 || n < 0 || at+n > s.size {
		return nil, damagef("something points out of its page")
	}
	if at+n <= int64(len(s.head)) {
		return s.head[at : at+n], nil
	}
	out := make([]byte, n)
	_, err := s.x.f.ReadAt(out, s.off+at)
	return out, err
}

func (s section) part(at, n int64) (section, error) {
	if at < 0 || n < 0 || at+n > s.size {
		return section{}, damagef("something points out of its page")
	}
	out := section{x: s.x, off: s.off + at, size: n}
	if at+n <= int64(len(s.head)) {
		out.head = s.head[at : at+n]
	}
	return out, nil
}

// bucketRef says where a bucket's tree is: at a page, or inline.
type bucketRef struct {
	root   uint64
	inline section
}

func (s section) ref() (bucketRef, error) {
	raw, err := s.bytes(0, bucketHead)
	if err != nil {
		return bucketRef{}, err
	}
	if root := native.Uint64(raw); root != 0 {
		return bucketRef{root: root}, nil
	}
	inline, err := s.part(bucketHead, s.size-bucketHead)
	return bucketRef{inline: inline}, err
}

// walk is the way through one tree. Keys must ascend, and a page must begin with the key that its branch names it by: bbolt
// finds a page's place in its branch by the page's first key, and where there is none it adds another.
type walk struct {
	x     *examination
	last  []byte
	named []byte // what the branch above names the next page by; nil: at the root
	each  func(k []byte, v section) error
}

// ordered judges the key at place i of a page.
func (w *walk) ordered(i int64, key []byte) error {
	switch {
	case w.last != nil && bytes.Compare(key, w.last) <= 0:
		return damagef("keys are out of order")
	case i == 0 && w.named != nil && !bytes.Equal(key, w.named):
		return damagef("a page begins with another key than its branch says")
	}
	return nil
}

func (x *examination) tree(b bucketRef, each func(k []byte, v section) error) error {
	w := &walk{x: x, each: each}
	if b.root != 0 {
		return w.page(b.root, 0)
	}
	head, err := b.inline.bytes(0, pageHead)
	if err != nil {
		return err
	}
	if flags, count := native.Uint16(head[8:]), native.Uint16(head[10:]); flags == flagLeaf {
		return w.leaf(b.inline, int64(count))
	}
	return damagef("an inline bucket is not a leaf")
}

func (w *walk) page(id uint64, height int) error {
	x := w.x
	if id < 2 || id >= x.pages || height > maxHeight {
		return damagef("there is no page %d", id)
	}
	s := section{x: x, off: int64(id) * x.size, size: x.size}
	head, err := s.bytes(0, x.size)
	if err != nil {
		return err
	}
	flags, count, more := native.Uint16(head[8:]), native.Uint16(head[10:]), uint64(native.Uint32(head[12:]))
	if native.Uint64(head) != id || id+more >= x.pages {
		return damagef("page %d is not what it should be", id)
	}
	for p := id; p <= id+more; p++ {
		if x.seen[p/64]&(1<<(p%64)) != 0 {
			return damagef("page %d is used twice", p)
		}
		x.seen[p/64] |= 1 << (p % 64)
	}
	s.head, s.size = head, int64(more+1)*x.size
	switch {
	case flags == flagLeaf && (count > 0 || height == 0):
		return w.leaf(s, int64(count))
	case flags == flagBranch && count > 0:
		return w.branch(s, int64(count), height)
	}
	return damagef("page %d is neither branch nor leaf", id)
}

func (w *walk) branch(s section, count int64, height int) error {
	for i := range count {
		at := pageHead + i*element
		e, err := s.bytes(at, element)
		if err != nil {
			return err
		}
		key, err := s.bytes(at+int64(native.Uint32(e)), int64(native.Uint32(e[4:])))
		if err != nil {
			return err
		}
		if err := w.ordered(i, key); err != nil {
			return err
		}
		w.named = key
		if err := w.page(native.Uint64(e[8:]), height+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) leaf(s section, count int64) error {
	for i := range count {
		at := pageHead + i*element
		e, err := s.bytes(at, element)
		if err != nil {
			return err
		}
		flags, pos, keySize := native.Uint32(e), int64(native.Uint32(e[4:])), int64(native.Uint32(e[8:]))
		key, err := s.bytes(at+pos, keySize)
		if err != nil {
			return err
		}
		v, err := s.part(at+pos+keySize, int64(native.Uint32(e[12:])))
		if err != nil {
			return err
		}
		if flags > flagBucket || len(key) == 0 {
			return damagef("an element is none of bbolt's")
		}
		if err := w.ordered(i, key); err != nil {
			return err
		}
		w.last, v.bucket = key, flags == flagBucket
		if err := w.each(key, v); err != nil {
			return err
		}
	}
	return nil
}

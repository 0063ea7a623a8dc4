package copy

import (
	"crypto/sha256"
	"io"
)

// sumOf returns the SHA-256 of the next size bytes. Fewer are io.ErrUnexpectedEOF.
func sumOf(from io.Reader, size int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(from, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	h.Sum(sum[:0])
	return sum, err
}

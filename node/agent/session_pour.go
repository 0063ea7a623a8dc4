package agent

import "io"

// A copying buffer begins small, because most sessions wait for a key to be pressed, and grows with what passes.
const (
	leastPour = 1 << 10
	mostPour  = 64 << 10
)

// pour copies src to dst until src ends (nil) or either fails. count, which may be nil, is told of all that was written.
func pour(dst io.Writer, src io.Reader, count func(n int)) error {
	buf := make([]byte, leastPour)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return err
			}
			if count != nil {
				count(n)
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n == len(buf) && n < mostPour:
			buf = make([]byte, 2*n)
		}
	}
}

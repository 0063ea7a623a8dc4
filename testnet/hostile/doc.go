// Package hostile makes inputs that cost a careless decoder much, and measures what they cost ours: lengths that nothing
// stands behind, arrays full of what takes a byte, deep nesting, repeated keys, and samples of the real encoders with all
// of that in place of each of their parts.
//
// It knows msgpack's and JSON's headers and nothing of muster, so that the tests of every package can use it. It never
// judges what a decoder returns: that is for the fuzz targets, whose corpora it reads.
package hostile

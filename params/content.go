package params

// Content is a version's value as it is kept: exactly one of the two. Its encoding is what Put.Digest is the SHA-256 of.
type Content struct {
	Plain  [][]byte // none or one
	Sealed []Sealed // none or one
}

// Sealed is an encrypted value: AES-256-GCM under a key that only this version has, wrapped for each reader. All of it is
// bound to the fleet, the parameter's name and birth, the version and the reader.
type Sealed struct {
	Box   []byte   // of the padded value
	Wraps [][]byte // HPKE ciphertexts (encapsulated key and box) of the version's key, in the order of Put.Readers
}

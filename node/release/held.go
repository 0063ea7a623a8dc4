package release

// Held is a release as a host has it on its disk.
type Held struct {
	Release
	Signed  Signed
	Builds  []HeldBuild // in the manifest's order
	Trusted bool        // as many of the fleet's keys signed it as the fleet asks for now
}

// HeldBuild is what a host has of a build.
type HeldBuild struct {
	Arch   string
	Packed int64 // bytes of all of it
	Chunks int
	Have   int // chunks that are here
	Given  int // chunks that were given to others since the agent started
}

// Progress is how far a fetch has come.
type Progress struct {
	Chunks, Have int
	Bytes        int64 // that came from others in this fetch
	Peers        int   // that gave some of it
	Open         int   // that are being asked now
}

// Fetched is what a fetch came to.
type Fetched struct {
	Release  Release
	Path     string // of the verified binary for this host, which may be run
	Bytes    int64  // that came from others
	Peers    int    // that gave them
	Millis   int64  // that it took
	Chunks   int    // of the build
	Resumed  int    // of these, that were here before
	FromDisk bool   // nothing had to come
}

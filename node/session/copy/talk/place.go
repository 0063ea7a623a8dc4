package talk

import (
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
)

// Standing says what there is at a path.
type Standing uint8

// What there may be.
const (
	Missing Standing = iota
	AFolder
	AFile
	Another // a device, a socket, a pipe
)

// Place is where a copy lands: in a folder that there is, under the names that things have, or under Name.
type Place struct {
	Folder string
	Name   string // "": each under its own
}

// PlaceOf decides where what is copied to a path lands, as cp has it: in it, if it is a folder; else under that name, if
// one thing is copied. into says that it must be a folder.
func PlaceOf(to string, is Standing, into bool) (Place, error) {
	if to == "" {
		to = "."
	}
	if strings.ContainsRune(to, 0) {
		return Place{}, fleet.Errorf(fleet.Invalid, "the destination has a zero byte in it")
	}
	switch is {
	case AFolder:
		return Place{Folder: to}, nil
	case Another:
		return Place{}, fleet.Errorf(fleet.Conflict, "%s is neither a file nor a folder", to)
	case Missing, AFile:
	}
	folder, name := split(to)
	if !into && name != "" {
		return Place{folder, name}, nil
	}
	if is == AFile {
		return Place{}, fleet.Errorf(fleet.Conflict, "%s is no folder", to)
	}
	return Place{}, NoFolder(to)
}

// NoFolder says that a copy has no folder to land in.
func NoFolder(path string) *fleet.Error {
	return fleet.Errorf(fleet.NotFound, "there is no folder %s", path).Hinted("make it first: mkdir -p")
}

// split cuts a path before its last name; that is "" where the path says that it is a folder.
func split(to string) (folder, name string) {
	at := strings.LastIndexByte(to, '/')
	folder, name = to[:at+1], to[at+1:]
	if CheckName(name) != nil {
		return to, ""
	}
	if folder == "" {
		folder = "."
	}
	return folder, name
}

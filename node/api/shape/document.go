package shape

import (
	"time"

	"github.com/muster-fleet/muster/node"
	"github.com/muster-fleet/muster/node/fleet"
)

// DocumentInfo is a published document. Among others it has its newest and its default version only, else all.
type DocumentInfo struct {
	Name     string            `json:"name"`
	Default  uint32            `json:"default"`
	Last     uint32            `json:"last"`  // the highest number ever given
	Count    uint32            `json:"count"` // versions that there are
	Versions []DocumentVersion `json:"versions"`
}

// DocumentVersion is one version of a document.
type DocumentVersion struct {
	Number      uint32    `json:"number"`
	VersionName string    `json:"version_name,omitempty"`
	Digest      fleet.ID  `json:"digest"`
	Publisher   string    `json:"by"`
	Time        time.Time `json:"published,omitzero"`
	Size        int64     `json:"size"`
}

func ofDocumentInfo(d node.DocumentInfo) DocumentInfo {
	out := DocumentInfo{Name: d.Name, Default: d.Default, Last: d.Last, Count: d.Count, Versions: make([]DocumentVersion, 0, len(d.Versions))}
	for _, v := range d.Versions {
		out.Versions = append(out.Versions, ofDocumentVersion(v))
	}
	return out
}

// Info returns what ofDocumentInfo was given.
func (d DocumentInfo) Info() node.DocumentInfo {
	out := node.DocumentInfo{Name: d.Name, Default: d.Default, Last: d.Last, Count: d.Count}
	for _, v := range d.Versions {
		out.Versions = append(out.Versions, v.Info())
	}
	return out
}

func ofDocumentVersion(v node.DocumentVersion) DocumentVersion {
	return DocumentVersion{v.Number, v.VersionName, v.Digest, v.Publisher, At(v.Time), v.Size}
}

// Info returns what ofDocumentVersion was given.
func (v DocumentVersion) Info() node.DocumentVersion {
	return node.DocumentVersion{
		Number: v.Number, VersionName: v.VersionName, Digest: v.Digest, Publisher: v.Publisher, Time: Milli(v.Time), Size: v.Size,
	}
}

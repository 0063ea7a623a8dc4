package main

import (
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/muster-fleet/muster/node/api/shape"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

func newParamCommand(a *app) *cobra.Command {
	return newNoun("param", "Parameters: configuration, and secrets that no server can read",
		newParamPutCommand(a), newParamGetCommand(a), newParamListCommand(a), newParamHistoryCommand(a), newParamLabelCommand(a),
		newParamUnlabelCommand(a), newParamDeleteCommand(a), newParamWatchCommand(a), newParamDiffCommand(a), newParamRollbackCommand(a),
		newParamExportCommand(a), newParamImportCommand(a), newParamRotateCommand(a), newParamRenderCommand(a), newParamRunCommand(a))
}

// paramShape is one version of a parameter, as JSON.
type paramShape struct {
	Format      int               `json:"format"`
	Name        string            `json:"name"`
	Selector    string            `json:"selector,omitempty"` // by which it was asked for: ":3" or ":label"
	Version     uint32            `json:"version"`
	Newest      uint32            `json:"newest"`
	Type        string            `json:"type"`
	Secret      bool              `json:"secret"`
	Value       *string           `json:"value,omitempty"` // missing: not asked for, or a secret that was not opened
	DataType    string            `json:"data_type"`
	Tier        string            `json:"tier"`
	Size        uint32            `json:"size"` // bytes
	Description string            `json:"description,omitempty"`
	Pattern     string            `json:"allowed_pattern,omitempty"`
	Policies    []policyShape     `json:"policies"`
	Tags        map[string]string `json:"tags"`
	Labels      []string          `json:"labels"`
	Readers     []readerShape     `json:"readers"` // of a secret
	Rotation    *rotationShape    `json:"rotation,omitempty"`
	By          string            `json:"by"`
	Modified    time.Time         `json:"modified"`
	AgeMS       int64             `json:"age_ms,omitempty"` // of a stale answer
	Source      string            `json:"source,omitempty"` // of a stale answer: replica or copy
}

type policyShape struct {
	Type   string    `json:"type"`
	At     time.Time `json:"at,omitzero"`
	Before string    `json:"before,omitempty"`
	After  string    `json:"after,omitempty"`
}

type readerShape struct {
	Kind  string `json:"kind"` // operator, keyring or recovery
	Name  string `json:"name,omitempty"`
	Epoch uint32 `json:"epoch,omitempty"` // of the keyring
}

type rotationShape struct {
	Document string    `json:"document"`
	Target   string    `json:"target"`
	Every    string    `json:"every,omitempty"`
	Length   uint32    `json:"length,omitempty"`
	Next     time.Time `json:"next,omitzero"` // when it is due, where that was asked for
}

// text says how a secret is rotated.
func (r *rotationShape) text() string {
	switch {
	case r == nil:
		return ""
	case r.Every == "":
		return r.Document + " on " + r.Target
	case r.Next.IsZero():
		return r.Document + " on " + r.Target + ", every " + r.Every
	}
	return r.Document + " on " + r.Target + ", every " + r.Every + ", next " + when(r.Next)
}

// shapeOf returns a version as JSON; value is what was revealed of it, or nil.
func shapeOf(v paramVersion, value []byte) paramShape {
	out := paramShape{
		Format: shape.Format, Name: v.put.Name, Selector: v.item.Selector, Version: v.put.Version, Newest: v.item.Newest,
		Type: v.put.Type.String(), Secret: v.secret(), DataType: v.put.DataType, Tier: v.put.Tier.String(), Size: v.put.Size,
		Description: v.put.Description, Pattern: v.put.Pattern, Policies: []policyShape{}, Tags: v.put.Tags, Labels: v.labels(),
		Readers: []readerShape{}, By: v.item.Operator, Modified: shape.At(v.item.Time), AgeMS: v.age.Milliseconds(), Source: v.source,
	}
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	for _, p := range v.put.Policies {
		out.Policies = append(out.Policies, shapeOfPolicy(p))
	}
	for _, r := range v.put.Readers {
		out.Readers = append(out.Readers, readerShape{readerKind(r.Kind), r.Name, r.Epoch})
	}
	for _, r := range v.put.Rotation {
		out.Rotation = &rotationShape{Document: r.Document, Target: r.Target, Length: r.Length}
		if r.Every != 0 {
			out.Rotation.Every = millis(r.Every).String()
		}
	}
	if value != nil {
		text := string(value)
		out.Value = &text
	}
	return out
}

func shapeOfPolicy(p params.Policy) policyShape {
	switch p.Kind {
	case params.Expiration:
		return policyShape{Type: "Expiration", At: shape.At(p.At)}
	case params.ExpirationNotification:
		return policyShape{Type: "ExpirationNotification", Before: millis(p.Before).String()}
	case params.NoChangeNotification:
		return policyShape{Type: "NoChangeNotification", After: millis(p.After).String()}
	}
	return policyShape{Type: "unknown"}
}

func policyText(p params.Policy) string {
	s := shapeOfPolicy(p)
	switch p.Kind {
	case params.Expiration:
		return "expires " + when(s.At)
	case params.ExpirationNotification:
		return "notice " + s.Before + " before"
	case params.NoChangeNotification:
		return "notice when unchanged for " + s.After
	}
	return s.Type
}

func policyTexts(policies []params.Policy) string {
	var out []string
	for _, p := range policies {
		out = append(out, policyText(p))
	}
	return strings.Join(out, ", ")
}

func millis(ms int64) lifespan { return lifespan(time.Duration(ms) * time.Millisecond) }

func readerKind(k params.ReaderKind) string {
	switch k {
	case params.ByRecovery:
		return "recovery"
	case params.ByOperator:
		return "operator"
	case params.ByKeyring:
		return "keyring"
	}
	return "unknown"
}

// canonicalNames reads the names of parameters.
func canonicalNames(texts []string) ([]string, error) {
	var out []string
	for _, text := range texts {
		name, err := params.CanonicalName(text)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, name) {
			return nil, fleet.Errorf(fleet.Invalid, "%s is named twice", name)
		}
		out = append(out, name)
	}
	return out, nil
}

// scopeOf returns what a signed read must cover for these names: the one name, or the path that all lie below.
func scopeOf(names ...string) string {
	if len(names) == 1 {
		return names[0]
	}
	scope := ""
	for i, name := range names {
		dir := name[:strings.LastIndexByte(name, '/')+1]
		if i == 0 {
			scope = dir
		}
		for !strings.HasPrefix(name, scope) {
			scope = scope[:strings.LastIndexByte(strings.TrimSuffix(scope, "/"), '/')+1]
		}
	}
	if scope == "" {
		return "/"
	}
	return scope
}

// scopeBelow returns what a signed read must cover for a path.
func scopeBelow(path string) string { return strings.TrimSuffix(path, "/") + "/" }

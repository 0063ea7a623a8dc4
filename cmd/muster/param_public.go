package main

import (
	"slices"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// publicParams lists the parameters that come with muster. Nobody has to be asked for them.
func publicParams() []paramVersion {
	var documents []params.PublicDocument
	for _, d := range document.BuiltIn() {
		doc, err := document.Parse(d.Text)
		if err != nil {
			continue // the tests parse them all
		}
		documents = append(documents, params.PublicDocument{Name: d.Name, Digest: hexOf(document.Digest(d.Text)), Schema: doc.Schema()})
	}
	var out []paramVersion
	for _, p := range params.PublicParameters(version(), documents) {
		out = append(out, publicVersion(p))
	}
	return out
}

// publicVersion gives a public parameter the form of the others. It has no version, for nobody put it.
func publicVersion(p params.PublicParameter) paramVersion {
	raw := params.PlainContent([]byte(p.Value)).Encode()
	put := params.Put{
		Name: p.Name, Type: params.String, DataType: params.DataText, Tier: params.Standard, Digest: fleet.Sum(raw), Size: uint32(len(p.Value)),
	}
	return paramVersion{put: put, item: params.Item{Content: [][]byte{raw}, Operator: "(muster)"}}
}

// publicVersionOf finds the public parameter that a selector names.
func publicVersionOf(s params.Selector) (paramVersion, error) {
	for _, v := range publicParams() {
		if v.put.Name == s.Name && s.Version == 0 && s.Label == "" {
			return v, nil
		}
	}
	return paramVersion{}, fleet.Errorf(fleet.NotFound, "no public parameter %s (ParameterNotFound)", s).Hinted("muster param list --public")
}

func publicBelow(path string, recursive bool) []paramVersion {
	return slices.DeleteFunc(publicParams(), func(v paramVersion) bool { return !params.Below(path, v.put.Name, recursive) })
}

// listPublic lists public parameters, all or below a path.
func (a *app) listPublic(args, filters []string) error {
	if len(filters) > 0 {
		return fleet.Errorf(fleet.Invalid, "--filter and --public at once").Hinted("muster param list --public %s/os", params.PublicPath)
	}
	path := params.PublicPath
	if len(args) == 1 {
		var err error
		if path, err = params.CheckPath(args[0]); err != nil {
			return err
		}
	}
	return a.showValues(revealed(publicBelow(path, true)), false)
}

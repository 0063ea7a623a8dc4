package main

import (
	"slices"
	"strings"

	"github.com/muster-fleet/muster/node/fleet"
	"github.com/muster-fleet/muster/params"
)

// parseFilters reads filters as --filter takes them.
func parseFilters(texts []string, forPath bool) ([]params.Filter, error) {
	var out []params.Filter
	for _, text := range texts {
		f, err := parseFilter(text)
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, params.CheckFilters(out, forPath)
}

// parseFilter reads a filter as Systems Manager's command line has it, Key=K,Option=O,Values=V,V, or in short: key=V,V for
// the key's own option, key^=V for what begins with V, key~=V for what contains it.
func parseFilter(text string) (params.Filter, error) {
	if rest, ok := strings.CutPrefix(text, "Key="); ok {
		return parseLongFilter(text, rest)
	}
	at := strings.IndexByte(text, '=')
	if at <= 0 {
		return params.Filter{}, fleet.Errorf(fleet.Invalid, "%q is no filter", text).
			Hinted("--filter type=SecureString, --filter 'name^=/app', --filter tag:env=prod, --filter Key=Name,Option=Contains,Values=db")
	}
	f := params.Filter{Values: strings.Split(text[at+1:], ",")}
	key := text[:at]
	switch key[len(key)-1] {
	case '^':
		key, f.Option = key[:len(key)-1], "BeginsWith"
	case '~':
		key, f.Option = key[:len(key)-1], "Contains"
	}
	f.Key = filterKey(key)
	if f.Key == "Path" {
		f.Option = "Recursive"
	}
	return f, nil
}

func parseLongFilter(text, rest string) (params.Filter, error) {
	var f params.Filter
	rest, values, ok := strings.Cut(rest, ",Values=")
	if ok {
		f.Values = strings.Split(values, ",")
	}
	key, option, _ := strings.Cut(rest, ",Option=")
	f.Key, f.Option = key, option
	if strings.ContainsAny(key+option, ",=") {
		return f, fleet.Errorf(fleet.Invalid, "%q is no filter", text).Hinted("Key=Name,Option=BeginsWith,Values=/app,/db")
	}
	return f, nil
}

// filterKey returns a key as Systems Manager spells it.
func filterKey(key string) string {
	if strings.EqualFold(key, "reader") {
		return "KeyId"
	}
	known := []string{"Name", "Type", "KeyId", "Path", "Tier", "DataType", "Label"}
	if i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) }); i >= 0 {
		return known[i]
	}
	return key
}

// Package metrics says in numbers how one host does, in the text format that Prometheus reads.
//
// It owns the list of what is told (list.go, of which testdata/metrics.txt is the golden copy), how it is written, and the
// listener that answers who scrapes. It takes no measurement itself: cmd/host fills a Snapshot from what each shell keeps in
// memory anyway, once per scrape, so that an agent that nobody scrapes pays nothing.
//
// It never serves anything but GET and HEAD of /metrics, tells no name of a node, an operator or a command, and has no global
// state. Labels have few values that are known beforehand, or are this binary's own: what peers say makes no series.
package metrics

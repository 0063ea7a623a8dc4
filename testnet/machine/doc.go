// Package machine makes machines of namespaces whose first process is their own systemd, or nothing that starts services:
// what packages, units and scripts are tried on.
//
// It owns namespaces, control groups, processes and files of its machines, and the root of Debian's packages that all of
// them see below their own changes. It asserts nothing about what runs on them, and touches neither the machine's own network
// nor its packages. When a Net is down, nothing of it is left but that root; when the process that made it dies, so do its
// machines, and empty control groups and a folder of files stay behind.
package machine

// Package lan makes hosts of namespaces: each with its own network, host name, processes and files, all on one bridge, with
// the agent as a real process on every one, and every fault that the kernel can make as a method.
//
// It owns the namespaces, processes and files of its hosts, and makes no assertion about what runs on them. It never
// touches the machine's own network, and never a process that it did not start. When a Lan is down, nothing of it is left;
// when the process that made it dies, its hosts die with it, unless they were made to stay.
package lan

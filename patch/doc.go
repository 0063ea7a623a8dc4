// Package patch will decide about patching: baselines, which updates they select, the plan for one host as data, and
// compliance.
//
// It is empty now. It will be pure: what is installed and what is on offer come in as values, and the plan goes out as
// one. It will never call a package tool; patch/apt, patch/dnf and patch/zypper will.
package patch

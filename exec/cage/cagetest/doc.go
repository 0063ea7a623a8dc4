// Package cagetest plays programs that try to outlive who started them, for tests: a test binary that is executed as Config.Self says
// hands its arguments to Hide or Hidden, and the test looks for what is left by a marker in their command lines.
//
// It kills nothing: that is what is tested. It has no place in a shipped binary.
package cagetest

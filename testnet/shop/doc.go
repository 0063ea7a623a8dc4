// Command shop is the web application of the README's example, with the document that gives its database the next password
// and the template of its configuration. It takes its title from the environment and its database from a file that muster
// renders, and reads the file anew on SIGHUP. Its database is a file with a password.
package main

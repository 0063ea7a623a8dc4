// Package s3 asks stores that speak Amazon S3's HTTP interface: it gets, lists and puts objects with signed requests.
//
// It owns how a bucket is named (Parse), where credentials come from (Find), and one request with its retries. It never
// decides what is copied or where to, keeps nothing on disk, and follows no redirect: a signature is for one host.
//
// Invariants: a secret key is in no URL, log or error; the body of a PUT is hashed before it is sent, so that what
// arrives is what was signed; errors name the store, the bucket and the key, never a query.
package s3

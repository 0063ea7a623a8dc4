// Package params will decide about parameters and secrets: names, versions, labels, who may read and write them, and how
// a secret is sealed for those who may read it.
//
// It is empty now. It will be pure: values are encrypted and decrypted by whoever holds the keys, stored by consensus, and
// fetched by shells; here is only what holds about them. It will never keep a secret in the clear, and a node will never
// take an older version for a newer one.
package params

// Package params decides about parameters and secrets: names, versions, labels, tiers, policies, who may write what, and how
// a secret is sealed for those who may read it.
//
// It is pure. Values are encrypted and decrypted by whoever holds the keys, stored by consensus, and fetched by shells;
// here is only what holds about them. What is kept of a secret is always sealed, and every version can be checked by its
// reader: an operator signed its name, number and digest, and the number is one more than that of the version before.
package params

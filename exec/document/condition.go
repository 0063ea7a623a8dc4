package document

import (
	"strings"
)

// condition is a precondition: StringEquals of two texts. Platform conditions compare the host's platform.
type condition struct {
	left, right string // of a platform condition: right is the platform
	line        int
	platform    bool
}

// readCondition reads a precondition; what SSM calls unrecognized is refused here.
func (d *Document) readCondition(n *node) (*condition, error) {
	f := read(n, "precondition", nil)
	pair := f.raw("StringEquals")
	if err := f.done(); err != nil {
		return nil, err
	}
	if pair == nil || pair.shape != list || len(pair.items) != 2 || pair.items[0].shape != scalar || pair.items[1].shape != scalar {
		return nil, refuse(n.line, "precondition: StringEquals with a list of two texts is all there is").Hinted("precondition: {StringEquals: [platformType, Linux]}")
	}
	c := &condition{left: pair.items[0].text, right: pair.items[1].text, line: pair.line}
	if strings.EqualFold(c.right, "platformType") {
		c.left, c.right = c.right, c.left
	}
	c.platform = strings.EqualFold(c.left, "platformType")
	return c, d.checkCondition(c)
}

func (d *Document) checkCondition(c *condition) error {
	named := append(refs(c.left), refs(c.right)...)
	for _, r := range named {
		if _, err := d.declared(r.name, c.line); err != nil {
			return err
		}
	}
	switch {
	case c.left == c.right:
		return refuse(c.line, "precondition: both texts are the same")
	case c.platform && platform(c.right) == "":
		return refuse(c.line, "precondition: platformType is Linux, Windows or MacOS, not %q", clip(c.right))
	case !c.platform && len(named) == 0:
		return refuse(c.line, "precondition: one of the two texts is platformType or holds a parameter")
	}
	return nil
}

// platform returns a platform's name as we spell it, or nothing.
func platform(s string) string {
	for _, p := range []string{"Linux", "Windows", "MacOS"} {
		if strings.EqualFold(s, p) {
			return p
		}
	}
	return ""
}

// for reports whether a step may ever run on a platform.
func (s *step) isFor(host string) bool {
	return s.when == nil || !s.when.platform || strings.EqualFold(s.when.right, host)
}

// holds reports whether the condition is met, and why not.
func (c *condition) holds(r resolver, host string) (ok bool, why string, err error) {
	if c.platform {
		return strings.EqualFold(c.right, host), "this step is for " + platform(c.right), nil
	}
	left, _, err := r.text(c.left, c.line)
	if err != nil {
		return false, "", err
	}
	right, _, err := r.text(c.right, c.line)
	if err == nil && r.d.store.hidesAny(left, right) {
		err = refuse(c.line, "precondition: a secret is compared with nothing")
	}
	return left == right, "precondition: " + c.left + " is not " + c.right, err
}

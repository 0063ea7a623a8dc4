package action

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/muster-fleet/muster/exec/document"
	"github.com/muster-fleet/muster/node/fleet"
)

// maxGitWords is how much of git's complaints is kept, in bytes.
const maxGitWords = 64 << 10

// scpRemote is git's short form of ssh: [USER@]HOST:PATH.
const scpRemote = fleet.Pattern(`^(?:([A-Za-z0-9_][A-Za-z0-9_.-]*)@)?([A-Za-z0-9][A-Za-z0-9.-]*):([^:].*)$`)

// remote is a repository and the keys to it.
type remote struct {
	address  string // as git is given it: no secret in it
	shown    string
	ssh      bool
	user     string // of http
	password string
}

// readRemote checks a repository's address. What could be taken for an option, or make git run a program, is refused.
func readRemote(in document.SourceInfo) (remote, error) {
	text := in.Repository
	switch {
	case text == "":
		return remote{}, fleet.Errorf(fleet.Invalid, "sourceInfo has no repository")
	case strings.HasPrefix(text, "-") || strings.Contains(text, "::") || strings.ContainsAny(text, "\x00\r\n"):
		return remote{}, fleet.Errorf(fleet.Invalid, "the repository is no address that is taken").Hinted("https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or /PATH")
	case filepath.IsAbs(text):
		return remote{address: text, shown: text}, nil
	}
	if strings.Contains(text, "://") {
		return readRemoteURL(text, in)
	}
	if m := scpRemote.FindStringSubmatch(text); m != nil {
		user := m[1]
		if user == "" {
			user = orGit(in.Username)
		}
		address := user + "@" + m[2] + ":" + m[3]
		return remote{address: address, shown: address, ssh: true}, checkUser(user)
	}
	return remote{}, fleet.Errorf(fleet.Invalid, "the repository is no address that is taken").Hinted("https://HOST/PATH, ssh://USER@HOST/PATH, USER@HOST:PATH or /PATH")
}

func readRemoteURL(text string, in document.SourceInfo) (remote, error) {
	u, err := url.Parse(text)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return remote{}, fleet.Errorf(fleet.Invalid, "the repository's address cannot be read")
	}
	user, password := in.Username, in.Password
	if u.User != nil && user == "" {
		user = u.User.Username()
	}
	if p, ok := u.User.Password(); ok && password == "" {
		password = p
	}
	switch u.Scheme {
	case "https", "http":
		if u.Scheme == "http" && !in.AllowInsecureDownload {
			return remote{}, notEncrypted(u)
		}
		u.User = nil
		return remote{address: u.String(), shown: shown(u), user: user, password: password}, checkHost(u)
	case "ssh":
		u.User = url.User(orGit(user))
		if err := checkUser(u.User.Username()); err != nil {
			return remote{}, err
		}
		return remote{address: u.String(), shown: shown(u), ssh: true}, checkHost(u)
	case "file":
		return remote{address: "file://" + u.Path, shown: shown(u)}, nil
	}
	return remote{}, fleet.Errorf(fleet.Invalid, "repositories are fetched by https, ssh or file, not by %s", u.Scheme)
}

func checkHost(u *url.URL) error {
	if u.Hostname() == "" || strings.HasPrefix(u.Hostname(), "-") {
		return fleet.Errorf(fleet.Invalid, "the repository's address has no host")
	}
	return nil
}

func checkUser(user string) error {
	if strings.HasPrefix(user, "-") || strings.ContainsAny(user, "@:/ ") {
		return fleet.Errorf(fleet.Invalid, "username is no user of ssh")
	}
	return nil
}

func orGit(user string) string {
	if user == "" {
		return "git"
	}
	return user
}

// fromGit downloads the files of one revision of a repository, or those below a path of it; its history stays where it is.
func (h host) fromGit(ctx context.Context, in document.SourceInfo, to destination) error {
	rev, err := readOptions(in.GetOptions)
	if err != nil {
		return err
	}
	r, err := readRemote(in)
	if err != nil {
		return err
	}
	git, ok := h.find("git")
	if !ok {
		return invalidPlatform("this host has no git")
	}
	secrets, remove, err := h.privateFolder()
	if err != nil {
		return err
	}
	defer remove()
	keys, err := giveKeys(r, in, secrets)
	if err != nil {
		return err
	}
	t, err := newTree(filepath.Dir(to.path))
	if err != nil {
		return err
	}
	defer t.discard()
	g := gitCaller{host: h.withoutGit(), git: git, keys: keys, work: t.part, store: secrets, secrets: []string{in.Password, r.password}}
	if err := g.checkOut(ctx, r, rev); err != nil {
		return err
	}
	return h.keepCheckout(ctx, t, in.Path, to)
}

// keepCheckout puts what was asked for in place.
func (h host) keepCheckout(ctx context.Context, t *tree, asked string, to destination) error {
	want := path.Clean("/" + asked)[1:]
	info, err := t.root.Lstat(orDot(want))
	what := foundNothing
	switch {
	case err != nil:
	case info.IsDir():
		what = foundFolder
	default:
		what = foundFile
	}
	if t.bytes, err = measure(filepath.Join(t.part, want)); err != nil && what != foundNothing {
		return troubleAt(t.part, err)
	}
	return h.keep(ctx, t, what, want, to)
}

// withoutGit takes away what would change what git does, and what would make it print what it sends.
func (h host) withoutGit() host {
	var env []string
	for _, kv := range h.env {
		if !strings.HasPrefix(kv, "GIT_") && !strings.HasPrefix(kv, "SSH_ASKPASS") {
			env = append(env, kv)
		}
	}
	h.env = env
	return h
}

// gitKeys is how git gets at a repository.
type gitKeys struct {
	helper string // credential helper
	ssh    string // command
}

// giveKeys writes keys into files of a private folder. Nothing of them is in an argument or the environment: only paths.
func giveKeys(r remote, in document.SourceInfo, dir string) (gitKeys, error) {
	k := gitKeys{ssh: "ssh -o BatchMode=yes"}
	if in.SkipHostKeyChecking {
		k.ssh += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
	} else {
		k.ssh += " -o StrictHostKeyChecking=yes"
	}
	if in.PrivateSSHKey != "" {
		if !r.ssh {
			return k, fleet.Errorf(fleet.Invalid, "privateSSHKey is for a repository by ssh, and %s is none", r.shown)
		}
		file := filepath.Join(dir, "key")
		// ssh wants a newline at the end, which a parameter's value seldom has.
		if err := os.WriteFile(file, []byte(strings.TrimSpace(in.PrivateSSHKey)+"\n"), 0o600); err != nil {
			return k, troubleAt(dir, err)
		}
		k.ssh += " -o IdentitiesOnly=yes -i '" + file + "'"
	}
	if r.ssh && in.Password != "" {
		return k, fleet.Errorf(fleet.Invalid, "a password opens no repository by ssh").Hinted("privateSSHKey, or https")
	}
	if r.user == "" && r.password == "" {
		return k, nil
	}
	u, err := url.Parse(r.address)
	if err != nil || u.Host == "" {
		return k, fleet.Errorf(fleet.Invalid, "username and password are for a repository by https, and %s is none", r.shown)
	}
	// git-credential-store gives them to this host alone.
	u = &url.URL{Scheme: u.Scheme, Host: u.Host, User: url.UserPassword(r.user, r.password)}
	file := filepath.Join(dir, "credentials")
	if err := os.WriteFile(file, []byte(u.String()+"\n"), 0o600); err != nil {
		return k, troubleAt(dir, err)
	}
	k.helper = "store --file='" + file + "'"
	return k, nil
}

// gitCaller calls git for one repository.
type gitCaller struct {
	host
	git     string
	keys    gitKeys
	work    string // the work tree
	store   string // a private folder, for git's own
	secrets []string
}

// checkOut fetches one revision into the work tree.
func (g gitCaller) checkOut(ctx context.Context, r remote, rev revision) error {
	if err := g.run(ctx, "init", "--quiet", "--template=", "--", g.work); err != nil {
		return err
	}
	err := g.run(ctx, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", r.address, rev.name())
	if err != nil && rev.commit != "" && ctx.Err() == nil {
		return g.checkOutCommit(ctx, r, rev.commit)
	}
	if err == nil {
		err = g.run(ctx, "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
	}
	if err != nil {
		return err
	}
	return g.forget()
}

// checkOutCommit is for servers that do not hand out a commit by its ID, and for short IDs: it fetches all branches.
func (g gitCaller) checkOutCommit(ctx context.Context, r remote, commit string) error {
	if err := g.run(ctx, "fetch", "--quiet", "--no-recurse-submodules", "--", r.address, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"); err != nil {
		return err
	}
	if err := g.run(ctx, "checkout", "--quiet", "--force", "--detach", commit+"^{commit}", "--"); err != nil {
		return err
	}
	return g.forget()
}

// forget removes the history: what is wanted are files.
func (g gitCaller) forget() error {
	if err := os.RemoveAll(filepath.Join(g.work, ".git")); err != nil {
		return troubleAt(g.work, err)
	}
	return nil
}

// run calls git once. Its own words are printed when it fails, without secrets.
func (g gitCaller) run(ctx context.Context, args ...string) error {
	said := &tail{limit: maxGitWords}
	fixed := []string{"-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "credential.helper=", "-c", "advice.detachedHead=false"}
	if g.keys.helper != "" {
		fixed = append(fixed, "-c", "credential.helper="+g.keys.helper)
	}
	err := g.call(ctx, tool{path: g.git, args: append(fixed, args...), dir: g.work, stdout: said, stderr: said,
		env: []string{"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_SSH_COMMAND=" + g.keys.ssh, "GIT_ALLOW_PROTOCOL=file:http:https:ssh",
			"GIT_CEILING_DIRECTORIES=" + filepath.Dir(g.work), "LC_ALL=C"}})
	if err == nil {
		return nil
	}
	words := bytes.TrimSpace(said.bytes())
	for _, s := range g.secrets {
		if s != "" {
			words = bytes.ReplaceAll(words, []byte(s), []byte("***"))
		}
	}
	g.say("%s", strings.ToValidUTF8(string(words), "\ufffd"))
	return err
}

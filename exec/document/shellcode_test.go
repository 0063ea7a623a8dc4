package document

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ranOnce are scripts that run what a value says if {{ p }} is a quoted reference and nothing else is judged, and such
// scripts as do the same without.
var ranOnce = []struct{ name, script, value, instead string }{
	{"unquoted in [", "x={{ p }}\nif [ $x = prod ]; then echo y; fi", "-v a[$(canary)] -o x", "x={{ p }}\nif [ \"$x\" = prod ]; then echo y; fi"},
	{"unquoted -n", "x={{ p }}\n[ -n $x ]", "x -a -v a[$(canary)]", "x={{ p }}\n[ -n \"$x\" ]"},
	{"unquoted in test", "x={{ p }}\ntest $x -gt 1", "-v a[$(canary)] -o 2", "x={{ p }}\ntest \"$x\" -gt 1"},
	{"unquoted behind =", "x={{ p }}\n[ a = $x ]", "b -o -v a[$(canary)]", "x={{ p }}\n[ a = \"$x\" ]"},
	{"unquoted SSM_p", "[ $SSM_p = prod ]", "-v a[$(canary)] -o x", "[ \"$SSM_p\" = prod ]"},
	{"unquoted $(…)", "[ $(echo {{ p }}) = prod ]", "-v a[$(canary)] -o x", "[ \"$(echo {{ p }})\" = prod ]"},
	{"unquoted in find", "x={{ p }}\nfind $x -name y", ". -exec canary ;", "x={{ p }}\nfind \"$x\" -name y"},
	{"$@ in [", "set -- -v {{ p }}\n[ \"$@\" ]", "a[$(canary)]", "set -- -v {{ p }}\necho \"$@\""},
	{"let with a name", "#!/bin/bash\nx={{ p }}\nlet \"n = x + 1\"", "a[$(canary)]", "#!/bin/bash\nx={{ n }}\nlet \"n = x + 1\""},
	{"[[ with a name", "#!/bin/bash\nx={{ p }}\n[[ x -gt 3 ]]", "a[$(canary)]", "#!/bin/bash\nx={{ p }}\n[[ $x == x ]]"},
	{"declare -i with a name", "#!/bin/bash\ndeclare -i n\nx={{ p }}\nn=x+1", "a[$(canary)]", "#!/bin/bash\ndeclare -i n\nx={{ n }}\nn=x+1"},
	{"for (( with a name", "#!/bin/bash\nx={{ p }}\nfor ((i=0; i<\"x\"; i++)); do :; done", "a[$(canary)]", "#!/bin/bash\nfor ((i=0; i<{{ n }}; i++)); do :; done"},
	{"name of a name", "#!/bin/bash\nx={{ p }}; y=x\necho $((y))", "a[$(canary)]", "#!/bin/bash\nx={{ p }}; y=x\necho \"$y\""},
	{"RANDOM", "#!/bin/bash\nRANDOM={{ p }}", "a[$(canary)]", "#!/bin/bash\nRANDOM={{ n }}"},
	{"OPTIND", "#!/bin/bash\nOPTIND={{ p }}", "a[$(canary)]", "#!/bin/bash\nSECONDS=1; echo {{ p }}"},
	{"eval of what a function prints", "f() { echo {{ p }}; }\neval \"$(f)\"", "canary", "f() { echo {{ p }}; }\necho \"$(f)\""},
	{"a function before sh", "f() { echo {{ p }}; }\nf | sh", "canary", "f() { echo {{ p }}; }\nf | cat"},
	{"perl's files", "perl -ne 'print' {{ p }}", "canary|", "cat -- {{ p }}"},
	{"second expression of sed", "echo ac | sed --expression 's/a/b/' --expression \"s/c/{{ p }}/\"", "canary/e;#", "echo ac | sed --expression 's/a/b/' -- ./{{ p }}"},
	{"sed with a number", "echo a | sed -l 5 \"s/a/{{ p }}/\"", "canary/e;#", "sed -l 5 s/a/b/ -- {{ p }}"},
	{"sed -f -", "sed -f - /etc/hostname <<EOF\ns/.*/{{ p }}/\nEOF", "canary/e;#", "sed -n p <<EOF\n{{ p }}\nEOF"},
	{"sh /dev/stdin", "sh /dev/stdin <<EOF\n{{ p }}\nEOF", "canary", "cat /dev/stdin <<EOF\n{{ p }}\nEOF"},
	{"sh -x /dev/fd/0", "sh -x /dev/fd/0 <<EOF\n{{ p }}\nEOF", "canary", "cat <<EOF\n{{ p }}\nEOF"},
	{"exec 3<<", "exec 3<<EOF\n{{ p }}\nEOF\nsh <&3", "canary", "exec 3<<EOF\nx\nEOF\ncat <&3; echo {{ p }}"},
	{"exec > >(sh)", "#!/bin/bash\nexec > >(sh)\necho {{ p }}\nsleep 0.2", "canary", "#!/bin/bash\nexec > >(cat)\necho {{ p }}"},
	{"flock's long option", "flock --timeout 5 lock -c \"{{ p }}\"", "canary", "flock --timeout 5 lock cat {{ p }}"},
	{"xargs env", "echo {{ p }} | xargs env", "canary", "echo {{ p }} | xargs -r ls"},
	{"xargs -I", "echo {{ p }} | xargs -I{} {}", "canary", "echo {{ p }} | xargs -I{} echo {}"},
	{"BASH_CMDS", "#!/bin/bash\nBASH_CMDS[ls]={{ p }}\nls", "canary", "#!/bin/bash\na[1]={{ p }}\nls"},
	{"tenth argument", "f() { eval \"${10}\"; }\nf a b c d e f g h i {{ p }}", "canary", "f() { echo \"${10}\"; }\nf a b c d e f g h i {{ p }}"},
	{"last argument", "#!/bin/bash\nf() { eval \"${!#}\"; }\nf {{ p }}", "canary", "#!/bin/bash\nf() { echo \"${@: -1}\"; }\nf {{ p }}"},
	{"getopts", "set -- -a {{ p }}\nwhile getopts a: o; do eval \"$OPTARG\"; done", "canary", "set -- -a {{ p }}\nwhile getopts a: o; do echo \"$OPTARG\"; done"},
	{"arguments of code", "bash -c '\"$@\"' _ {{ p }}", "canary", "bash -c 'echo \"$@\"' _ {{ p }}"},
	{"a variable in code", "export X={{ p }}\nsh -c 'eval \"$X\"'", "canary", "export X={{ p }}\nsh -c 'echo \"$X\"'"},
	{"a name in eval", "x={{ p }}\neval '$x'", "canary", "x={{ p }}\neval 'echo \"$x\"'"},
	{"trap of a variable", "x={{ p }}\ntrap '$x' EXIT", "canary", "x={{ p }}\ntrap 'echo \"$x\"' EXIT"},
	{"awk that runs", "awk -v c={{ p }} 'BEGIN { system(c) }'", "canary", "awk -v c={{ p }} 'BEGIN { print c }'"},
	{"read into PATH", "#!/bin/bash\nread -r ENV <<< {{ p }}\nexport ENV; $ENV", "canary", "#!/bin/bash\nenv={{ p }}\necho \"$env\""},
	{"a match", "#!/bin/bash\n[[ {{ p }} =~ (.*) ]]\necho $(( ${BASH_REMATCH[1]} ))", "a[$(canary)]", "#!/bin/bash\n[[ {{ p }} =~ (.*) ]]\necho \"${BASH_REMATCH[1]}\""},
	{"the last word", ": {{ p }}\neval \"$_\"", "canary", ": {{ p }}\necho \"$_\""},
	{"a shell in code", "sh -c sh <<EOF\n{{ p }}\nEOF", "canary", "sh -c cat <<EOF\n{{ p }}\nEOF"},
	{"a shell behind flock", "flock l -c sh <<EOF\n{{ p }}\nEOF", "canary", "flock l -c cat <<EOF\n{{ p }}\nEOF"},
	{"a heredoc of a shell", "sh <<'EOF'\neval \"$SSM_p\"\nEOF", "canary", "sh <<'EOF'\necho \"$SSM_p\"\nEOF"},
	{"a heredoc with an argument", "bash -s -- {{ p }} <<'EOF'\neval \"$1\"\nEOF", "canary", "bash -s -- {{ p }} <<'EOF'\necho \"$1\"\nEOF"},
	{"an index that is a name", "#!/bin/bash\nx={{ p }}\necho ${a[\"x\"]}", "b[$(canary)]", "#!/bin/bash\na=({{ p }})\necho \"${a[0]}\""},
	{"test -v of an index", "#!/bin/bash\nx={{ p }}\n[ -v 'a[x]' ]", "b[$(canary)]", "#!/bin/bash\nx={{ p }}\n[ -v x ]"},
}

// TestWhatOnceRanAValue: each of these is refused with a line; what may be written instead is taken, and runs nothing.
func TestWhatOnceRanAValue(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "canary"), []byte("#!/bin/sh\necho ran >>\"$CANARY\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range ranOnce {
		if ran := runWith(t, c.script, c.value, bin); ran == "" {
			t.Errorf("%s: taken, though this time nothing ran: %s", c.name, c.script)
		} else if !strings.HasPrefix(ran, "line 1") {
			t.Errorf("%s: %s", c.name, ran)
		}
		if ran := runWith(t, c.instead, c.value, bin); ran != "" {
			t.Errorf("%s, instead: %s: %s", c.name, c.instead, ran)
		}
	}
}

// runWith returns the refusal of a script, or what running it with a value ran.
func runWith(t *testing.T, script, value, bin string) string {
	t.Helper()
	d, err := Parse([]byte(docWith(script)))
	if err != nil {
		return err.Error()
	}
	v, err := d.Complete([]Argument{{"p", encode(value)}})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := d.Plan(v, Host{Platform: Linux}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ran := runCanary(t, "bash", plan.Steps[0].Script, plan.Steps[0].Env, bin); ran != "" {
		return "a value was run: " + ran
	}
	return ""
}

func TestPlacesOfCodeAreRefused(t *testing.T) {
	t.Parallel()
	for name, scripts := range map[string][]string{
		"arithmetic": {"#!/bin/bash\nx={{ p }}\necho $(( \"x\" ))", "#!/bin/bash\ndeclare -n r=x; x={{ p }}; eval \"$r\"", "#!/bin/bash\nx={{ p }}\nunset 'a[x]'",
			"#!/bin/bash\ndeclare -i n\nread -r n <<< {{ p }}", "#!/bin/bash\nfor RANDOM in {{ p }}; do :; done"},
		"editors": {"gawk -i inplace '{print \"{{ p }}\"}' f", "#!/bin/bash\nsed -f <(echo \"s/a/{{ p }}/\") f", "awk -f - f <<EOF\n{print \"{{ p }}\"}\nEOF",
			"awk --source \"{{ p }}\" f", "sed -E --expr \"{{ p }}\" f", "echo {{ p }} | awk '{ system($0) }'", "sed -s{{ p }} f"},
		"interpreters": {"echo {{ p }} | python3 /dev/stdin", "bash -- {{ p }}", "sh ./scripts/{{ p }}.sh", "x={{ p }}\nsh \"/opt/$x/run.sh\"", "node -r {{ p }} x.js",
			"php -f {{ p }}", "python3 -m {{ p }}", "python3 -W {{ p }} x.py", "perl -M{{ p }} x.pl", "bash --init-file {{ p }} x", "echo {{ p }} | bash -", "bash -O {{ p }} x.sh",
			"ruby -ne 'print' {{ p }}", "sh -c \"$code\" sh {{ p }}", "perl -e 'print <>' {{ p }}"},
		"wrappers": {"su - web -- -c \"{{ p }}\"", "runuser -u web -- {{ p }}", "echo {{ p }} | xargs sudo", "echo {{ p }} | xargs nohup", "echo {{ p }} | xargs find /tmp -name",
			"sudo --user web bash {{ p }}", "sudo FOO=1 bash {{ p }}", "/usr/bin/time -f %e bash {{ p }}", "sudo --unknown x {{ p }}", "env -iS \"{{ p }}\"", "sudo BASH_ENV={{ p }} id",
			"sudo \"$@\" {{ p }}", "set -- {{ p }}\nsudo \"$@\"", "flock lock -c \"$SSM_p\"", "echo {{ p }} | env -i sh", "echo {{ p }} | sudo -s", "env --split-string={{ p }}"},
		"programs": {"ip netns exec ns {{ p }}", "docker exec web {{ p }}", "kubectl exec pod -- {{ p }}", "pkexec {{ p }}", "capsh -- -c \"{{ p }}\"", "xvfb-run {{ p }}",
			"tar -xf a.tar --to-command={{ p }}", "tar -xf a.tar -I {{ p }}", "tar -cf a.tar {{ p }}", "rsync -e {{ p }} a b", "git -c core.sshCommand={{ p }} fetch", "rpm --eval {{ p }}",
			"socat - EXEC:{{ p }}", "lftp -e {{ p }}", "scp -o ProxyCommand={{ p }} a b:", "systemd-run --property=ExecStartPre={{ p }} true", "mongosh --eval \"{{ p }}\"",
			"docker exec -it web sh -c {{ p }}", "rsync --rsh {{ p }} a b", "git config core.pager {{ p }}"},
		"variables": {"LESSOPEN={{ p }} less f", "GIT_EXTERNAL_DIFF={{ p }} git diff", "HOME={{ p }} git pull", "x={{ p }}; export PYTHONSTARTUP=\"$x\"", "env X=1 BASH_ENV=\"$SSM_p\" bash -c true",
			"#!/bin/bash\nread -r PATH <<< {{ p }}", "for IFS in {{ p }}; do :; done", "#!/bin/bash\nprintf -v 'PATH' %s {{ p }}", "MAKEFLAGS={{ p }} make"},
		"heredocs": {"sh <<EOF\n${x}EOF\necho {{ p }}\nEOF", "sh <<EOF\n$(x)EOF\necho {{ p }}\nEOF"},
		"names": {"alias e=eval\necho {{ p }}", "cd {{ p }} && ./deploy.sh", "cd {{ p }}; sh run.sh", "cd {{ p }}; eval \"cd $PWD\"", "cd {{ p }}; sh \"$(pwd)/x\"",
			"eval() { sh -c \"$1\"; }\neval {{ p }}", "f() { f2 \"$1\"; }\nf2() { eval \"$1\"; }\nf {{ p }}", "command set -- {{ p }}\neval \"$1\"", "x={{ p }}\neval \"y=\\$x; \\$y\""},
	} {
		for _, script := range scripts {
			_, err := Parse([]byte(docWith(script)))
			if err == nil || !strings.HasPrefix(err.Error(), "line 1") && !strings.HasPrefix(err.Error(), "line 2") {
				t.Errorf("%s: %s: %v", name, script, err)
			}
		}
	}
}

// TestOrdinaryScriptsAreTaken: what people write with care is not refused.
func TestOrdinaryScriptsAreTaken(t *testing.T) {
	t.Parallel()
	for _, script := range []string{
		`set -eu; cd /srv && ./deploy {{ p }}`, `if [ -f "/etc/{{ p }}" ]; then systemctl restart {{ p }}; fi`, `sudo -u web env A={{ q }} ./run --name {{ p }}`,
		`docker exec web ls {{ p }}`, `docker run --rm image ls {{ p }}`, `kubectl exec pod -c web -- ls {{ p }}`, `tar -czf /tmp/{{ p }}.tgz -C {{ q }} .`, `tar xzf {{ p }}`, `rsync -a -- {{ p }} {{ q }}`,
		`git clone -- {{ p }} {{ q }}`, `git -C {{ p }} pull`, `find {{ p }} -type f -name {{ q }} -mtime +7 -delete`, `sed -n p -- {{ p }}`, `awk -F, '{print $1}' {{ p }}`, `grep -c {{ p }} f | sort -n`,
		`f() { echo "$@"; }; f {{ p }} {{ q }}`, `set -- {{ p }}; cat "$@"`, `x=$(basename {{ p }}); echo "${x%.txt}" "${#x}"`, `trap 'rm -rf "$d"' EXIT; d=$(mktemp -d); echo {{ p }} >"$d/f"`,
		`curl -fsS -o /tmp/x {{ p }}`, `psql -h {{ p }} -U {{ q }} -c 'select 1'`, `python3 -c 'import sys; print(sys.argv[1])' {{ p }}`, `python3 -m json.tool {{ p }}`, `eval "$(ssh-agent -s)"; echo {{ p }}`,
		`exec >>/var/log/x.log 2>&1; echo {{ p }}`, `exec >>"/var/log/{{ p }}.log"`, `timeout --signal KILL 5 cat {{ p }}`, `nice -n 5 ionice -c 3 cat {{ p }}`, `bash -s -- {{ p }} <<'EOF'` + "\necho \"$1\"\nEOF",
		"#!/bin/bash\nmapfile -t a < f; printf '%s\\n' \"${a[@]}\" {{ p }}", "find . -name {{ p }} -print0 | xargs -0 rm -f",
		`ip addr show dev {{ e }}`, `ip addr show dev "eth{{ p }}"`, `env A={{ p }} sudo -u www -- cat f`, `i=0; while [ "$i" -lt 3 ]; do i=$((i + 1)); echo {{ p }}; done`,
	} {
		if _, err := Parse([]byte(docWith(script))); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
}

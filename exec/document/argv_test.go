package document

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// argvDoc makes a document with one program and its arguments; a step of its own line.
func argvDoc(t *testing.T, argv string) string {
	t.Helper()
	text, err := json.Marshal(strings.Split(argv, " | "))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`schemaVersion: "2.2"
parameters:
  p: {type: String, default: x}
  q: {type: String, default: y}
  n: {type: Integer, default: 5}
  e: {type: String, default: start, allowedValues: [start, stop, sh]}
  v: {type: StringList, default: [a, b]}
mainSteps:
- name: s
  action: muster:run
  inputs:
    argv: %s
`, text)
}

// TestArgvRefusals: no value, and no number of words of a list, is run by a program that runs its arguments.
func TestArgvRefusals(t *testing.T) {
	for _, argv := range []string{
		"{{ p }}", "{{ v }}", "{{ e }} | {{ p }}", "{{ e }} | -c | {{ p }}",
		"sudo | -u | {{ v }} | id", "timeout | -k | {{ v }} | 5 | id", "env | -u | {{ v }} | id", "nice | -n | {{ v }} | id", "xargs | -n | {{ v }}",
		"find | {{ v }}", "find | . | {{ v }}", "find | -name | {{ v }}", "find | . | -exec | {{ p }} | ;", "find | . | -exec | sh | -c | {{ p }} | ;",
		"test | a | {{ v }}", "[ | a | {{ v }} | ]", "python3 | -W | {{ v }}", "python3 | -W | {{ p }} | x.py", "bash | -O | {{ v }}", "perl | -I | {{ v }} | x.pl",
		"perl | -I | {{ p }} | x.pl", "psql | -d | {{ v }}", "mysql | -h | {{ v }}", "gawk | -v | {{ v }} | {print}", "su | -s | {{ v }}", "su | {{ p }}",
		"su | - | web | -c | {{ p }}", "su | - | web | -- | -c | {{ p }}", "runuser | -u | web | -- | {{ p }}",
		"sudo | {{ p }}", "sudo | {{ v }}", "sudo | -n | {{ p }}", "sudo | -- | {{ p }}", "sudo | --user | web | {{ p }}", "sudo | --user | web | bash | {{ p }}",
		"sudo | FOO=1 | bash | {{ p }}", "sudo | FOO=1 | {{ p }}", "sudo | -u | web | {{ v }}", "sudo | LD_PRELOAD={{ p }} | id", "sudo | -u | web | sudo | {{ v }} | id",
		"env | {{ p }}", "env | A=b | {{ p }}", "env | -S | {{ p }}", "env | -S{{ p }}", "env | --split-string={{ p }}", "env | PATH={{ p }} | id", "env | {{ p }}=x | id",
		"nice | {{ p }}", "nice | -n | 5 | {{ p }}", "timeout | 5 | {{ p }}", "timeout | {{ p }} | id", "timeout | 5 | {{ v }}", "timeout | {{ v }}", "time | -f | %e | bash | {{ p }}", "/usr/bin/time | -f | %e | bash | {{ p }}",
		"flock | /lock | -c | {{ p }}", "flock | --timeout | 5 | /lock | -c | {{ p }}", "xargs | {{ p }}", "xargs | {{ v }}", "xargs | -I{} | {{ p }}", "nohup | {{ p }}", "busybox | {{ p }}", "busybox | sh | -c | {{ p }}",
		"systemd-run | --property=ExecStartPre={{ p }} | true", "systemd-run | {{ p }}", "strace | -o | {{ p }} | id",
		"sh | {{ p }}", "sh | {{ v }}", "sh | -c | {{ p }}", "sh | -c | {{ v }}", "sh | -c | echo {{ p }}", "bash | -- | {{ p }}", "bash | -x | {{ p }}", "sh | ./scripts/{{ p }}.sh", "sh | -e | {{ p }} | x",
		`bash | -c | "$@" | _ | {{ p }}`, `bash | -c | $1 | _ | {{ p }}`, `sh | -c | eval "$1" | sh | {{ p }}`, `sh | -c | eval "$2" | sh | {{ v }}`, `sudo | sh | -c | eval "$1" | sh | {{ p }}`,
		"python3 | {{ p }}", "python3 | -c | {{ p }}", "python3 | -m | {{ p }}", "perl | -ne | print | {{ p }}", "perl | -n | x.pl | {{ p }}", "perl | -e | {{ p }}", "ruby | -e | {{ p }}", "node | -e | {{ p }}", "node | -r | {{ p }} | x.js", "node | --require | x | {{ p }}", "php | -f | {{ p }}",
		"ssh | {{ p }}", "ssh | host | {{ p }}", "ssh | host | {{ v }}", "ssh | -o | ProxyCommand={{ p }} | host", "watch | {{ p }}", "make | {{ p }}", "pkexec | {{ p }}", "capsh | -- | -c | {{ p }}", "xvfb-run | {{ p }}", "socat | - | EXEC:{{ p }}",
		"ip | netns | exec | n | {{ p }}", "docker | exec | web | {{ p }}", "docker | {{ v }}", "docker | run | {{ p }}", "kubectl | exec | pod | -- | {{ p }}", "kubectl | {{ p }}", "docker | -H | {{ v }}",
		"tar | -xf | a.tar | --to-command={{ p }}", "tar | -xf | a.tar | --to-command | {{ p }}", "tar | -xf | a.tar | -I | {{ p }}", "tar | -xf | {{ v }}", "tar | {{ p }}", "rsync | -e | {{ p }} | a | b", "rsync | -a | {{ p }} | b", "git | -c | core.sshCommand={{ p }} | fetch",
		"git | -c | {{ p }} | fetch", "git | fetch | o | {{ p }}", "rpm | --eval | {{ p }}", "lftp | -e | {{ p }}", "mongosh | --eval | {{ p }}", "scp | -o | ProxyCommand={{ p }} | a | b:", "apt-get | install | {{ p }}", "apt-get | install | -y | {{ v }}", "apt-get | -o | Dpkg::Pre-Invoke::={{ p }} | install | x",
		"sed | {{ p }} | f", "sed | -e | {{ p }} | f", "sed | s/a/{{ p }}/ | f", "sed | s/a/b/ | {{ v }}", "sed | --expression | s/a/b/ | --expression | s/c/{{ p }}/ | f", "sed | -l | 5 | s/a/{{ p }}/ | f", "awk | {{ p }} | f", `awk | -v | c={{ p }} | BEGIN{system(c)}`, "gawk | -i | inplace | {print \"{{ p }}\"}",
		"sed | -n | -- | {{ p }}", "gawk | -i | inplace | -- | {{ p }}", "gawk | -i | inplace | -- | {print} | {{ p }}", `sh | -c | eval "$SSM_p"`, `sudo | bash | -c | $SSM_p`,
		"mytool | sh | -c | {{ p }}", "mytool | sudo | -u | {{ v }} | id",
	} {
		_, err := Parse([]byte(argvDoc(t, argv)))
		if err == nil {
			t.Errorf("%s: taken", argv)
			continue
		}
		if !strings.Contains(err.Error(), "line 12") || !strings.Contains(err.Error(), "{{ ") && !strings.Contains(err.Error(), "holds a value") {
			t.Errorf("%s: %v", argv, err)
		}
	}
}

// TestArgvTakes holds what people need: values as arguments of programs that only read them.
func TestArgvTakes(t *testing.T) {
	for _, argv := range []string{
		"systemctl | restart | {{ v }}", "systemctl | restart | {{ p }}", "systemctl | {{ e }} | {{ p }}", "ls | -l | -- | {{ v }}", "echo | {{ v }} | {{ p }}", "grep | -e | {{ p }} | /etc/passwd",
		"sudo | systemctl | restart | {{ v }}", "sudo | -u | {{ p }} | id", "sudo | -n | systemctl | restart | {{ p }}", "sudo | -u | web | -- | ls | {{ v }}", "timeout | 5 | ls | {{ p }}", "nice | -n | 5 | ls | {{ v }}",
		"env | A={{ p }} | ls | {{ v }}", "sh | -c | echo \"$1 $GREETING\" | sh | {{ p }}", "sh | -c | for f in \"$@\"; do ls -- \"$f\"; done | sh | {{ v }}", "sh | ./check.sh | {{ p }} | {{ v }}", "python3 | x.py | {{ v }}", "python3 | -m | json.tool | {{ p }}",
		"find | {{ p }} | -name | {{ q }}", "tar | -xf | {{ p }} | -C | {{ q }}", "tar | -cf | x.tar | -- | {{ v }}", "rsync | -a | -- | {{ p }} | /b", "git | -C | /x | fetch | -- | o | {{ p }}", "git | clone | -- | {{ p }}", "apt-get | install | -y | -- | {{ v }}",
		"docker | restart | {{ p }}", "docker | restart | -- | {{ v }}", "ssh | host | systemctl | restart | web{{ n }}", "sed | s/a/b/ | -- | {{ v }}", "useradd | --create-home | -- | {{ p }}", "psql | -d | {{ p }} | -c | select 1",
	} {
		d, err := Parse([]byte(argvDoc(t, argv)))
		if err != nil {
			t.Errorf("%s: %v", argv, err)
		} else if d.RawShell() {
			t.Errorf("%s: raw shell", argv)
		}
	}
}

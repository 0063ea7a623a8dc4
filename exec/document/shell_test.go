package document

import (
	"fmt"
	"strings"
	"testing"
)

// docWith makes a document with a few parameters around a script.
func docWith(script string) string {
	indented := "        " + strings.ReplaceAll(script, "\n", "\n        ")
	return `schemaVersion: "2.2"
parameters:
  p: {type: String, default: x}
  q: {type: String, default: y}
  n: {type: Integer, default: 5}
  b: {type: Boolean, default: true}
  e: {type: String, default: start, allowedValues: [start, stop]}
  l: {type: StringList, default: [a, b]}
mainSteps:
- name: s
  action: aws:runShellScript
  inputs:
    runCommand:
      - |
` + indented + "\n"
}

func TestReferencesAreRewrittenByTheirPlace(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{`echo {{ p }}`, `echo "${SSM_p}"`},
		{`echo {{p}} a{{ q }}b`, `echo "${SSM_p}" a"${SSM_q}"b`},
		{`echo "a {{ p }}"`, `echo "a ${SSM_p}"`},
		{`echo 'a {{ p }} b'`, `echo 'a '"${SSM_p}"' b'`},
		{`echo '{{ p }}'`, `echo ''"${SSM_p}"''`},
		{"cat <<EOF\na {{ p }} \"b\" $x\nEOF", "cat <<EOF\na ${SSM_p} \"b\" $x\nEOF"},
		{"cat <<'EOF'\na {{ p }} $x `y` \\z\n{{ q }}\nEOF", "cat <<EOF\na ${SSM_p} \\$x \\`y\\` \\\\z\n${SSM_q}\nEOF"},
		{"if true; then\n\tcat <<-\"E\"\n\ta {{ p }}\n\t$x\n\tE\nfi", "if true; then\n\tcat <<-E\n\ta ${SSM_p}\n\t\\$x\n\tE\nfi"},
		{`x=$(grep {{ p }} f)`, `x=$(grep "${SSM_p}" f)`},
		{`x="$(grep {{ p }} "f {{ q }}")"`, `x="$(grep "${SSM_p}" "f ${SSM_q}")"`},
		{"cat <<EOF\n$(grep {{ p }} f)\nEOF", "cat <<EOF\n$(grep \"${SSM_p}\" f)\nEOF"},
		{`x={{ p }} y="{{ p }}" true`, `x="${SSM_p}" y="${SSM_p}" true`},
		{`export X={{ p }}`, `export X="${SSM_p}"`},
		{`cat <{{ p }} >"{{ q }}"`, `cat <"${SSM_p}" >"${SSM_q}"`},
		{`case {{ p }} in {{ q }}) echo;; esac`, `case "${SSM_p}" in "${SSM_q}") echo;; esac`},
		{`for i in {{ p }} {{ q }}; do echo "$i"; done`, `for i in "${SSM_p}" "${SSM_q}"; do echo "$i"; done`},
		{`[ {{ p }} = x ] && [ -n "{{ q }}" ]`, `[ "${SSM_p}" = x ] && [ -n "${SSM_q}" ]`},
		{`echo ${x:-{{ p }}} "${x:-{{ p }}}"`, `echo ${x:-"${SSM_p}"} "${x:-${SSM_p}}"`},
		{`echo $(( {{ n }} + 1 ))`, `echo $(( ${SSM_n} + 1 ))`},
		{"# {{ p }}\necho {{ p }} # {{ p }}", "# {{ p }}\necho \"${SSM_p}\" # {{ p }}"},
		{`sh -c 'echo "$1"' sh {{ p }}`, `sh -c 'echo "$1"' sh "${SSM_p}"`},
		{`ssh host systemctl {{ e }} web{{ n }}`, `ssh host systemctl "${SSM_e}" web"${SSM_n}"`},
		{"x=`expr {{ n }} + 1`", "x=`expr ${SSM_n} + 1`"},
		{`docker ps --format '{{.Names}} {{ json . }}' {{ p }}`, `docker ps --format '{{.Names}} {{ json . }}' "${SSM_p}"`},
		{`sudo -u {{ p }} env A={{ q }} nice -n 5 cat {{ p }}`, `sudo -u "${SSM_p}" env A="${SSM_q}" nice -n 5 cat "${SSM_p}"`},
		{`sed -i 's/a/b/' ./{{ p }}`, `sed -i 's/a/b/' ./"${SSM_p}"`},
		{`awk -v x={{ p }} '{print x}' f`, `awk -v x="${SSM_p}" '{print x}' f`},
		{`find {{ p }} -name {{ q }} -exec rm {} +`, `find "${SSM_p}" -name "${SSM_q}" -exec rm {} +`},
		{`echo {{ l }}`, `echo "${SSM_l}"`},
		{`{{ p }}`, `eval "${SSM_p}"`},
		{`cd /tmp; {{ p }} >log 2>&1`, `cd /tmp; eval "${SSM_p}" >log 2>&1`},
		{"true\n{{ l }}", "true\neval \"${MUSTER_LINES_l}\""},
		{"#!/bin/bash\n[[ {{ n }} -gt 3 ]] && cat <<< {{ p }}", "#!/bin/bash\n[[ ${SSM_n} -gt 3 ]] && cat <<< \"${SSM_p}\""},
		{"#!/bin/bash\na=({{ p }} \"{{ q }}\"); diff <(echo {{ p }}) x", "#!/bin/bash\na=(\"${SSM_p}\" \"${SSM_q}\"); diff <(echo \"${SSM_p}\") x"},
		{`printf '%s\n' {{ p }}; printf "x {{ p }}"`, `printf '%s\n' "${SSM_p}"; printf "x ${SSM_p}"`},
		{`python3 ./x.py {{ q }}`, `python3 ./x.py "${SSM_q}"`},
		{`sh -- x.sh {{ p }}`, `sh -- x.sh "${SSM_p}"`},
		{`{{ e }} now`, `"${SSM_e}" now`},
		{`"$folder/tool" {{ p }}; /opt/$v/bin/tool {{ p }}`, `"$folder/tool" "${SSM_p}"; /opt/$v/bin/tool "${SSM_p}"`},
		{`f() { echo "$1"; }; f {{ p }}`, `f() { echo "$1"; }; f "${SSM_p}"`},
	} {
		d, err := Parse([]byte(docWith(c.script)))
		if err != nil {
			t.Errorf("%s\n  %v", c.script, err)
			continue
		}
		if c.script == "{{ p }}" {
			continue // the whole script: see TestAWholeScriptIsRawShell
		}
		if got := d.steps[0].compiled.text; got != c.want+"\n" {
			t.Errorf("%s\n got %s\nwant %s", c.script, got, c.want)
		}
	}
}

func TestTheLineOfARefusalIsTheDocuments(t *testing.T) {
	refused(t, docWith("echo a\necho 'b\nc'\neval {{ p }}"), "line 18:", "{{ p }} inside eval")
	refused(t, docWith("x={{ p }}\n\neval $x"), "line 17:", "$x, which holds a value, inside eval")
	refused(t, docWith("echo {{ p }}\nif true"), "line 16:", "no shell can read")
	refused(t, `{"schemaVersion": "2.2", "parameters": {"p": {"type": "String"}},
"mainSteps": [{"name": "a", "action": "aws:runShellScript", "inputs": {"runCommand": [
"echo one",
"echo two\neval {{ p }}"]}}]}`, "line 4:", "inside eval")
}

// TestTangledScriptsAreRefusedAtOnce: documents come from other people, and are read where everybody waits.
func TestTangledScriptsAreRefusedAtOnce(t *testing.T) {
	backwards := ""
	for i := 2500; i > 0; i-- {
		backwards += fmt.Sprintf("v%d=$v%d\n", i, i-1)
	}
	for _, script := range []string{
		backwards + "v0={{ p }}", strings.Repeat("echo {{ p }} | ", 1_500) + "cat", strings.Repeat("$(", 9_000) + "echo {{ p }}" + strings.Repeat(")", 9_000),
		strings.Repeat("{ ", 5_000) + "echo {{ p }}" + strings.Repeat("; }", 5_000),
	} {
		refused(t, docWith(script), "line 15")
	}
}

func TestUnsafePlacesAreRefusedWithTheirLine(t *testing.T) {
	for _, script := range []string{
		`eval "echo {{ p }}"`, `eval {{ p }}`, `sh -c "echo {{ p }}"`, `bash -ec 'echo {{ p }}'`, `sh -c -e "{{ p }}"`, `/bin/sh -c "{{ p }}"`,
		`sh -o errexit -c "{{ p }}"`, `sudo -u root sh -c "{{ p }}"`, `docker exec web sh -c "{{ p }}"`, `ssh host "echo {{ p }}"`, `ssh {{ p }} true`,
		"echo `cat {{ p }}`", `echo $(( {{ p }} ))`, "#!/bin/bash\n(( x = {{ p }} ))", "#!/bin/bash\necho ${x:{{ p }}:1}", "#!/bin/bash\necho ${x[{{ p }}]}",
		`{{ p }} arg`, `./{{ p }}`, `exec {{ p }}`, `sudo {{ p }}`, `xargs {{ p }}`, `find . -exec {{ p }} \;`, `env {{ p }}`, `timeout 5 {{ p }}`, `timeout {{ p }} ls`,
		`PATH={{ p }}`, `LD_PRELOAD={{ p }} ls`, `env LD_PRELOAD={{ p }} ls`, `export {{ p }}`, `export {{ p }}=1`, `{{ p }}=1`,
		"sh <<EOF\necho {{ p }}\nEOF", "ssh host <<EOF\necho {{ p }}\nEOF", "cat <<EOF | bash\necho {{ p }}\nEOF", `echo {{ p }} | sh`, `echo {{ p }} | sudo bash -s`,
		"#!/bin/bash\nbash <<< {{ p }}", "#!/bin/bash\nbash <(echo {{ p }})", "#!/bin/bash\necho {{ p }} > >(sh)", "#!/bin/bash\necho {{ p }} | tee >(sh)",
		`python3 -c "print('{{ p }}')"`, `python3 {{ p }}`, `perl -e '{{ p }}'`, `perl -I lib -ne '{{ p }}'`, "python3 <<EOF\n{{ p }}\nEOF",
		`sed "s/a/{{ p }}/" f`, `sed -n -e "{{ p }}" f`, `sed -ne "{{ p }}" f`, `awk '{print "{{ p }}"}'`, `awk -F: '/{{ p }}/' f`, `sed p {{ p }}`,
		`echo \{{ p }}`, `echo "\{{ p }}"`, `echo ~{{ p }}`, `echo ${{ p }}`, `echo "${{ p }}"`, "#!/bin/bash\necho $'{{ p }}'", "#!/bin/bash\necho $\"{{ p }}\"",
		`echo ${x#{{ p }}}`, "#!/bin/bash\necho ${x/a/{{ p }}}", `f{{ p }}() { true; }`, `for {{ p }} in a; do true; done`, `cat <<{{ p }}` + "\nx\n{{ p }}",
		`trap "echo {{ p }}" EXIT`, `alias x={{ p }}`, `. {{ p }}`, `cat 2>&{{ p }}`, `x={{ p }}; eval "echo $x"`, `x={{ p }}; y="a$x"; sh -c "$y"`,
		`for i in {{ p }}; do ssh $i ls; done`, `f() { eval "$1"; }; f {{ p }}`, `set -- {{ p }}; eval "$@"`, `echo {{ p }} | while read x; do eval "$x"; done`,
		`x={{ p }}; echo $(( x + 1 ))`, "#!/bin/bash\n[[ {{ p }} -gt 3 ]]", "#!/bin/bash\n[[ -v {{ p }} ]]", `[ -v {{ p }} ]`, `[ {{ p }} {{ q }} ]`, `printf -v {{ p }} x`, `printf {{ p }}`, `printf "{{ p }}\n"`,
		"#!/bin/bash\ndeclare -i x={{ p }}", "#!/bin/bash\ndeclare -i x; x={{ p }}", `unset {{ p }}`, "#!/bin/bash\nx={{ p }}; echo ${!x}", "#!/bin/bash\nx={{ p }}; echo ${x@P}",
		`make X={{ p }}`, `watch {{ p }}`, `echo {{ p }} | xargs -I{} sh -c 'echo {}'`, `su - web -c "{{ p }}"`, "su - web <<EOF\n{{ p }}\nEOF", `eval "$SSM_p"`, `python3 -c{{ p }}`,
		"#!/usr/bin/python3\nprint('{{ p }}')", `echo {{ missing }}`, `sh -c 'echo {{ ssm:plain }}'`, `echo "{{ p }}`, `f() { sh; }; echo {{ p }} | f`, `echo $(( {{ e }} ))`, "echo {{ b }} $(( {{ b }} ))",
		"#!/bin/bash\necho +({{ p }})", `env -S "{{ p }}"`, `flock /l -c "{{ p }}"`, "cat <<'E F'\n{{ p }}\nE F", `{{ p }} | cat {{ q }} | sh`, `sh {{ p }}`, `bash --rcfile {{ p }} -i`, `bash --init-file={{ p }} -i`,
		`$cmd {{ p }}`, `"$cmd" {{ p }}`, `command $x {{ p }}`, `sudo $x {{ p }}`, `{{ e }} {{ p }}`, `"$d/sh" -c {{ p }}`,
		"cat <<'EOF'#x\n{{ p }}\nEOF\nEOF#x",
		`command eval "{{ p }}"`, `builtin eval {{ p }}`, `'eval' {{ p }}`, `e"v"al {{ p }}`, `\eval {{ p }}`, `bash -c "$(echo {{ p }})"`, `eval "$(cat <<EOF` + "\n{{ p }}\nEOF\n)\"",
	} {
		_, err := Parse([]byte(docWith(script)))
		if err == nil {
			t.Errorf("taken: %s", script)
			continue
		}
		if !strings.HasPrefix(err.Error(), "line 1") && !strings.HasPrefix(err.Error(), "line 2") {
			t.Errorf("%s: no line: %v", script, err)
		}
		if testing.Verbose() {
			t.Logf("%-40q %v", script, err)
		}
	}
}

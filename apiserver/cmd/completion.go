package cmd

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/kelp-engine/kelp/engine/fault"
)

// completions is the code that makes a shell ask kelp itself how a command
// line may go on. 'kelp docker' asks the docker client's part.
var completions = map[string]string{
	"bash": `_kelp() {
	local cur=${COMP_WORDS[COMP_CWORD]}
	if [ "${COMP_WORDS[1]}" = docker ] && [ "$COMP_CWORD" -gt 1 ]; then
		COMPREPLY=($(compgen -W "$(kelp docker __completeNoDesc "${COMP_WORDS[@]:2:COMP_CWORD-1}" 2>/dev/null | grep -v '^:')" -- "$cur"))
	else
		local flag=()
		[[ $cur == -* ]] && flag=("$cur")
		COMPREPLY=($(compgen -W "$("${COMP_WORDS[@]:0:COMP_CWORD}" "${flag[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
	fi
}
complete -o default -F _kelp kelp
`,
	"zsh": `_kelp() {
	local -a found
	if [[ ${words[2]} == docker && $CURRENT -gt 2 ]]; then
		found=(${(f)"$(kelp docker __completeNoDesc "${(@)words[3,$CURRENT]}" 2>/dev/null | grep -v '^:')"})
	else
		local -a flag
		[[ ${words[CURRENT]} == -* ]] && flag=(${words[CURRENT]})
		found=(${(f)"$(${words[1,$CURRENT-1]} $flag --generate-bash-completion 2>/dev/null)"})
		found=(${found%%:*})
	fi
	compadd -a found || _files
}
compdef _kelp kelp
`,
	"fish": `function __kelp_complete
	set -l words (commandline -opc)
	if test (count $words) -gt 1; and test $words[2] = docker
		kelp docker __complete $words[3..] (commandline -ct) 2>/dev/null | string match -v ':*'
	else
		set -l flag (string match -- '-*' (commandline -ct))
		$words $flag --generate-bash-completion 2>/dev/null
	end
end
complete -c kelp -f -a '(__kelp_complete)'
`,
}

var completionCommand = &cli.Command{
	Name:      "completion",
	Usage:     "print shell code that completes kelp's command lines",
	ArgsUsage: "bash|zsh|fish",
	Description: `   bash   eval "$(kelp completion bash)"
   zsh    eval "$(kelp completion zsh)"
   fish   kelp completion fish | source`,
	Action: func(c *cli.Context) error {
		code, ok := completions[c.Args().First()]
		if !ok || c.NArg() != 1 {
			return fault.InvalidArgument("no shell is named").WithHint("use one of: kelp completion bash, kelp completion zsh, kelp completion fish")
		}
		_, err := io.WriteString(c.App.Writer, code)
		return err
	},
}

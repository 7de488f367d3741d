load cri
setup_file() { use_peer "${PEER:-2.x}"; use_runtime "$RUNTIME"; cri_up; }
@test "x" {
	local p a i
	p=$(pod "$ID")
	for i in {1..60}; do
	a=$(run "$p" a$i 'echo out; echo err >&2; printf part; exit 7')
	wait_for 20 state_is "$a" "$EXITED"
	[[ $(log_of "$ID" a$i | wc -l) == 3 ]] || { log_of "$ID" a$i | paste -sd ' ' | sed "s/^/# $i: /" >&3; sleep 1;  log_of "$ID" a$i | paste -sd ' ' | sed "s/^/# $i: /" >&3; }
	remove "$a"
	done
	pod_rm "$p"
}

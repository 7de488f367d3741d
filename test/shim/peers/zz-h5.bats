load peers
setup_file() { use_peer "${PEER:-2.x}"; use_runtime "${RUNTIME:-runc}"; peers_up "$PEER"; }
@test "x" {
	local i pids=()
	ctr_run -d "$ID" sleep 1000
	for j in {1..12}; do
	for i in {1..30}; do
		ctr_exec "$ID" sh -c "seq $i 20000; exit $i" >"$LAB/out.$i" 2>"$LAB/err.$i" &
		pids[i]=$!
	done
	for i in {1..30}; do
		exits_with "$i" wait "${pids[i]}"
		seq "$i" 20000 | cmp - "$LAB/out.$i" || { echo "# $j $i: $(cat $LAB/err.$i)" >&3; }
	done
	done
	ctr_rm "$ID"
}

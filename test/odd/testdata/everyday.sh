# What a user does every day, from `kelp env` to `kelp stop`. Arguments are
# those of `kelp env`. Ends with 0 when all of it works.
set -u
fail() {
	echo "FAILED: $*"
	kelp status
	tail -n 20 "${DATA_ROOT:-$HOME/.local/share/kelp}/kelp.log"
	kelp stop
	exit 1
}
code=$(kelp env "$@") || exit 3
eval "$code"
docker load -q -i "$BUSYBOX" || fail load
test "$(docker run --rm busybox echo hi)" = hi || fail run
docker run -d --name web -p 0:80 -v data:/www busybox sh -c 'echo hello >/www/index.html; exec httpd -f -h /www' || fail run -d
# soon says whether what its arguments print is hello, in the end.
soon() {
	tries=0
	until [ "$("$@" 2>/dev/null)" = hello ]; do
		tries=$((tries + 1))
		[ $tries -lt 600 ] || return 1
		sleep 0.1
	done
}
soon docker exec web cat /www/index.html || fail exec
port=$(docker port web 80/tcp | head -n 1)
soon busybox wget -q -O - "http://127.0.0.1:${port##*:}/" || fail published port
docker network create backend || fail network create
docker network connect --alias front backend web || fail network connect
docker run --rm --network backend busybox wget -q -O - http://front/ | grep -qx hello || fail a name in a network
mkdir "$SCRATCH/ours" && echo bound >"$SCRATCH/ours/file" || fail scratch
test "$(docker run --rm -v "$SCRATCH/ours:/b" busybox sh -c 'echo made >/b/made; cat /b/file')" = bound || fail bind
test "$(stat -c %u "$SCRATCH/ours/made")" = "$(id -u)" || fail owner of a file in a bind
docker cp "$SCRATCH/ours/file" web:/tmp/ && docker exec web grep -q bound /tmp/file || fail cp
docker pause web && docker unpause web || fail pause
docker stats --no-stream web | grep -q web || fail stats
docker commit web committed && docker run --rm committed grep -q bound /tmp/file || fail commit
docker logs web || fail logs
docker rm -f web && docker network rm backend && docker volume rm data || fail rm
docker info >/dev/null || fail info
kelp doctor
kelp stop || fail stop

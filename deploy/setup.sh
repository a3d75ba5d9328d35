#!/bin/sh
# Makes what the services of docker-compose.yml need: keys, policies, folders. Run again it adds what is missing and
# changes nothing that is there. In earnest every witness is made by another operator, on a machine of his own.
#
#   DATA      the folder with one subfolder for each service, and `shared` for what everybody may read
#   AUTHORS   verifier keys whose entries the log takes, separated by blanks (later: DATA/log/service/authors.txt)
#   LOG_URL, MIRROR_URL, WITNESS_A_URL, WITNESS_B_URL, WITNESS_C_URL
#   PD        the program (default: pd)
set -eu
umask 077
pd="${PD:-pd}"
shared="$DATA/shared"

for name in a b c; do
    folder="$DATA/witness-$name/service"
    if [ ! -f "$folder/witness.toml" ]; then
        $pd witness init "$folder" --name "witness-$name.example/w" --guard "$DATA/guards/witness-$name.count"
    fi
    $pd keys show "$folder/keys/witness.key" > "$shared/witness-$name.vkey"
done

if [ ! -f "$shared/witnesses.txt" ]; then
    {
        echo "witness a $(cat "$shared/witness-a.vkey") $WITNESS_A_URL"
        echo "witness b $(cat "$shared/witness-b.vkey") $WITNESS_B_URL"
        echo "witness c $(cat "$shared/witness-c.vkey") $WITNESS_C_URL"
        echo "group two-of-three 2 a b c"
        echo "quorum two-of-three"
    } > "$shared/witnesses.new"
    mv "$shared/witnesses.new" "$shared/witnesses.txt"
fi

if [ ! -f "$DATA/log/service/service.toml" ]; then
    set --
    for key in ${AUTHORS:-}; do
        set -- "$@" --author "$key"
    done
    $pd node log-init "$DATA/log/service" --origin log.example/shared --policy "$shared/witnesses.txt" "$@"
fi
log="$($pd keys show "$DATA/log/service/keys/log.key")"
for name in a b c; do
    $pd witness add "$DATA/witness-$name/service" "$log"
done

# what verifiers and the monitor take: the log's address too
{ echo "log $log $LOG_URL"; cat "$shared/witnesses.txt"; } > "$shared/policy.new"
mv "$shared/policy.new" "$shared/policy.txt"

if [ ! -f "$DATA/mirror/service/mirror.toml" ]; then
    $pd mirror init "$DATA/mirror/service" --name mirror.example/archive --guard "$DATA/guards/mirror.count"
fi
$pd mirror add "$DATA/mirror/service" "$log" --from "$LOG_URL"

if [ ! -f "$DATA/monitor/service/monitor.toml" ]; then
    $pd monitor init "$DATA/monitor/service" --poll 10
fi
if ! grep -q '^\[\[log\]\]' "$DATA/monitor/service/monitor.toml"; then
    $pd monitor add "$DATA/monitor/service" --policy "$shared/policy.txt" --mirror "$MIRROR_URL"
fi

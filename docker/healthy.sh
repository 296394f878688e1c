#!/bin/sh
# Is the batch job in this container well? It is while its command runs (it is the child of process 1, and not stopped or dead), and, where
# it writes the metrics of a training, as long as it goes on writing them: a lost disk or a hung GPU leaves a process that only looks alive.
# Docker shows the answer and does nothing; what a training needs is a look, not a restart. MEDSSL_HEALTH_MINUTES: longest silence, 15.
set -eu
for folder in /proc/[0-9]*; do
    read -r _ _ state parent _ 2>/dev/null <"$folder/stat" || continue
    [ "$parent" = 1 ] && command=${folder#/proc/} && break
done
case ${command:+$state} in
    '') echo "there is no command"; exit 1 ;;
    [TtZX]) echo "the command is stopped or dead ($state)"; exit 1 ;;
esac
for handle in "/proc/$command/fd"/*; do
    file=$(readlink "$handle" 2>/dev/null) || continue
    case $file in
        */metrics.jsonl)
            if [ -z "$(find "$file" -mmin "-${MEDSSL_HEALTH_MINUTES:-15}" 2>/dev/null)" ]; then
                echo "nothing new in $file for ${MEDSSL_HEALTH_MINUTES:-15} minutes"
                exit 1
            fi ;;
    esac
done
echo "process $command runs"

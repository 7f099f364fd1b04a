#!/bin/sh
# Print nginx's map of origins for the CORS_ORIGINS in the settings file:
#   cors-origins.sh /etc/todo-api.env > /etc/nginx/conf.d/todo-api-cors.conf
set -eu
origins=$(sed -n "s/^CORS_ORIGINS=//p" "$1" | tail -n 1 | tr -d "\"'")
case $origins in
*[!A-Za-z0-9:/.,\ _\[\]-]*)
    echo "CORS_ORIGINS in $1 contains a character that no origin has" >&2
    exit 1
    ;;
esac
sed "s|\${CORS_ORIGINS}|$origins|" "$(dirname "$0")/cors.conf.template"

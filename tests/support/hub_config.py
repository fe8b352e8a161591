# A hub's configuration for the tests, executed by JupyterHub. What differs from test to test is in given.json beside it;
# ``support.hub`` writes that, and appends what else a test wants.
import json
from pathlib import Path

given = json.loads(Path("given.json").read_text())
people = given["people"]

c = get_config()  # noqa: F821
c.JupyterHub.bind_url = given["public"]
c.JupyterHub.hub_bind_url = given["hub"]
c.ConfigurableHTTPProxy.command = given["proxy"]
c.ConfigurableHTTPProxy.api_url = given["proxy_api"]
c.JupyterHub.allow_named_servers = True
c.JupyterHub.services = [{"name": "tests", "api_token": given["token"]}]
c.JupyterHub.load_roles = [
    {"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers", "tokens", "shares"]}
]
if given["login"]:
    c.JupyterHub.authenticator_class = "dummy"
    c.Authenticator.allow_all = True
c.Authenticator.admin_users = {name for name, person in people.items() if person["admin"]}

c.Spawner.cmd = given["command"]
c.Spawner.environment = given["environment"]
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
if not given["accounts"]:
    c.JupyterHub.spawner_class = "simple"
    c.Spawner.args = ["--allow-root"]


def before_it_starts(spawner):
    person = people[spawner.user.name]
    if not given["accounts"]:
        spawner.home_dir = person["home"]
    spawner.environment = {**spawner.environment, **person["environment"]}


c.Spawner.pre_spawn_hook = before_it_starts

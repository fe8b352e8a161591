import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { IProblem } from './api';
import { clock } from './clock';

/** The code of the problem that stands for "this server has no jupyter-dsvm". */
export const SERVER_EXTENSION_MISSING = 'ServerExtensionMissing';

/** The code of the problem that stands for "no answer from the Jupyter server". */
export const NO_ANSWER = 'NoAnswer';

/** What the server extension (or the server, or the network) answered instead of what was asked for. */
export class RequestError extends Error {
  constructor(
    readonly problem: IProblem,
    readonly status: number | null
  ) {
    super(problem.message);
    this.name = 'RequestError';
  }
}

/**
 * Ask the server extension.
 *
 * JupyterLab's `ServerConnection` adds the token or the XSRF header. Rejects with a `RequestError` only.
 *
 * @param path below `jupyter-dsvm/`; ids in it must already be URL-encoded.
 */
export async function request<T>(
  path: string,
  settings: ServerConnection.ISettings,
  trans: TranslationBundle,
  init: RequestInit = {}
): Promise<T> {
  const method = init.method ?? 'GET';
  const url = URLExt.join(settings.baseUrl, 'jupyter-dsvm', path);
  let response: Response;
  let text: string;
  const asked = Date.now();
  try {
    response = await ServerConnection.makeRequest(url, init, settings);
    clock.learn(response.headers.get('Date'), Date.now() - asked);
    text = await response.text();
  } catch (reason) {
    throw new RequestError(
      {
        code: NO_ANSWER,
        message: trans.__(
          'The Jupyter server did not answer %1 jupyter-dsvm/%2: %3',
          method,
          path,
          reason instanceof Error ? reason.message : String(reason)
        ),
        advice: trans.__(
          'Check that it is running and that you are online. This page asks again by itself.'
        )
      },
      null
    );
  }
  const data = parse(text);
  if (!response.ok) {
    throw new RequestError(problemOf(data, response, method, path, trans), response.status);
  }
  if (data === undefined && response.status !== 204) {
    throw new RequestError(
      {
        code: 'NotJSON',
        message: trans.__(
          'The Jupyter server answered %1 jupyter-dsvm/%2 with something that is no JSON.',
          method,
          path
        ),
        advice: trans.__('A proxy or a sign-in page may stand between. Reload the page.')
      },
      response.status
    );
  }
  return data as T;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problemOf(
  data: unknown,
  response: Response,
  method: string,
  path: string,
  trans: TranslationBundle
): IProblem {
  if (isProblem(data)) {
    return data;
  }
  if (response.status === 404) {
    return {
      code: SERVER_EXTENSION_MISSING,
      message: trans.__('This Jupyter server has no jupyter-dsvm extension running.'),
      advice: trans.__(
        'Install jupyter-dsvm in the environment of the server, check it with “jupyter server extension list”, and start the server again.'
      )
    };
  }
  const said =
    typeof data === 'object' && data !== null && 'message' in data && data.message
      ? String(data.message)
      : response.statusText;
  return {
    code: `HTTP${response.status}`,
    message: trans
      .__(
        'The Jupyter server refused %1 jupyter-dsvm/%2: %3 %4',
        method,
        path,
        response.status,
        said
      )
      .trim(),
    advice:
      response.status === 403
        ? trans.__('Your session may have expired. Reload the page and sign in again.')
        : ''
  };
}

function isProblem(data: unknown): data is IProblem {
  return (
    typeof data === 'object' &&
    data !== null &&
    typeof (data as IProblem).code === 'string' &&
    typeof (data as IProblem).message === 'string' &&
    typeof (data as IProblem).advice === 'string'
  );
}

/** Whatever was thrown, as something that can be shown. */
export function asProblem(reason: unknown): IProblem {
  if (reason instanceof RequestError) {
    return reason.problem;
  }
  return {
    code: 'Page',
    message: reason instanceof Error ? reason.message : String(reason),
    advice: ''
  };
}

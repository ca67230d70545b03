'use strict';

// The page is at /docs/api, possibly below the path of a proxy.
const base = new URL('..', location.href);
const byId = (id) => document.getElementById(id);
// The tokens that the page holds. They are nowhere else.
let refreshToken = '';

/** An element with these attributes and children; texts stay texts. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

/** Markdown as far as the document has it: paragraphs, and code between backticks. */
function paragraphs(text = '') {
  return text.split('\n\n').filter(Boolean).map((paragraph) => element('p', {}, ...inline(paragraph)));
}

function inline(text) {
  return text.split('`').map((part, index) => (index % 2 ? element('code', {}, part) : part));
}

/** What a `$ref` names. */
function resolve(specification, schema = {}) {
  if (!schema.$ref) return schema;
  return schema.$ref.slice(2).split('/').reduce((found, key) => found[key], specification);
}

const typeOf = (schema) => [schema.type].flat().find((type) => type && type !== 'null') ?? 'string';

/** A field for a parameter or a member. An empty one is left out of the request. */
function field(id, name, schema, description, isRequired) {
  const isSecret = /password|token|^code$/.test(name);
  const type = typeOf(schema);
  let control;
  if (schema.enum || type === 'boolean') {
    const values = schema.enum ?? ['true', 'false'];
    control = element('select', { id }, element('option', { value: '' }, '–'),
      ...values.map((value) => element('option', { value }, value)));
  } else if (type === 'array' || type === 'object') {
    control = element('textarea', { id, placeholder: type === 'array' ? 'one on each line' : '{}', spellcheck: 'false' });
  } else {
    control = element('input', { id, type: isSecret ? 'password' : 'text', autocomplete: 'off', spellcheck: 'false' });
  }
  const label = element('label', { for: id }, name, element('small', {}, isRequired ? ' required' : ''));
  const hint = description && element('span', { class: 'hint' }, ...inline(description));
  const read = () => {
    const text = control.value;
    if (text === '') return undefined;
    if (type === 'boolean') return text === 'true';
    if (type === 'integer' || type === 'number') return Number(text);
    if (type === 'array') return text.split('\n').filter(Boolean);
    if (type === 'object') return JSON.parse(text);
    return text;
  };
  return { name, control, read, view: element('div', { class: 'field' }, label, control, hint) };
}

/** The fields of a body; of several kinds of bodies, one is chosen. The body can also be written as JSON. */
function bodyFields(specification, id, content) {
  const schema = resolve(specification, content.schema);
  const kinds = (schema.anyOf ?? schema.oneOf ?? [content.schema]).map((kind) => resolve(specification, kind));
  const place = element('div');
  let fields = [];
  const show = (kind) => {
    fields = Object.entries(kind.properties ?? {}).map(([name, member]) =>
      field(`${id}-${name}`, name, resolve(specification, member), member.description, (kind.required ?? []).includes(name)));
    place.replaceChildren(...fields.map(({ view }) => view));
  };
  show(kinds[0]);
  const choice = kinds.length > 1 && element('select', {
    id: `${id}-kind`, 'aria-label': 'The kind of body', onchange: (event) => show(kinds[event.target.value]),
  }, ...kinds.map((kind, index) => element('option', { value: index }, (kind.description ?? '').replace(/\.$/, ''))));
  const json = element('textarea', { id: `${id}-json`, hidden: true, 'aria-label': 'The body as JSON', spellcheck: 'false' });
  const read = () => {
    if (!json.hidden) return json.value;
    const members = fields.map(({ name, read: one }) => {
      const value = one();
      // A refresh or a logout takes the refresh token that the page holds.
      const held = name === 'refresh_token' && value === undefined && refreshToken ? refreshToken : value;
      return [name, held];
    }).filter(([, value]) => value !== undefined);
    return members.length || content.required ? JSON.stringify(Object.fromEntries(members)) : undefined;
  };
  const asJson = element('button', { type: 'button', onclick: () => {
    if (json.hidden) json.value = JSON.stringify(JSON.parse(read() ?? '{}'), null, 2);
    json.hidden = !json.hidden;
    place.hidden = !json.hidden;
    asJson.textContent = json.hidden ? 'Write JSON' : 'Fill in fields';
  } }, 'Write JSON');
  return { read, asJson, view: element('div', { class: 'field' }, choice || undefined, place, json) };
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** The command that sends the same request. The bearer token is not shown. */
function curl(method, url, headers, body) {
  const parts = ['curl -i', method === 'GET' ? '' : `-X ${method}`, quoted(url.href)];
  for (const [name, value] of Object.entries(headers)) {
    parts.push(name === 'authorization' ? '-H "authorization: Bearer $ACCESS_TOKEN"' : `-H ${quoted(`${name}: ${value}`)}`);
  }
  if (body !== undefined) parts.push(`-d ${quoted(body)}`);
  return parts.filter(Boolean).join(' ');
}

function hold(token, refresh, whose) {
  byId('token').value = token;
  refreshToken = refresh;
  byId('held').textContent = token
    ? `Held in this page alone: ${whose}.`
    : 'No token. It is kept in this page alone, until the page is closed.';
}

/** Takes over the tokens of an answer, or forgets those of a session that has ended. */
function remember(operationId, status, answer) {
  if (answer?.access_token) {
    hold(answer.access_token, answer.refresh_token ?? '', `the tokens of ${answer.user?.email ?? answer.user?.username ?? 'a session'}`);
  } else if (status === 204 && ['logout', 'deleteMe'].includes(operationId)) {
    hold('', '', '');
  }
}

async function send(operation, method, path, parameters, body, place) {
  place.replaceChildren(element('p', { class: 'hint' }, 'Sent; waiting for the answer.'));
  try {
    let target = path.slice(1);
    const query = new URLSearchParams();
    for (const { where, name, read } of parameters) {
      const value = read();
      if (where === 'path') target = target.replace(`{${name}}`, encodeURIComponent(value ?? ''));
      else if (value !== undefined) query.append(name, value);
    }
    const url = new URL(target + (query.size ? `?${query}` : ''), base);
    const text = body?.read();
    const headers = {};
    if (text !== undefined) headers['content-type'] = 'application/json';
    const token = byId('token').value.trim();
    // A refresh and a logout judge the token of the body first; login and register take none.
    if (token && operation.security && operation.operationId !== 'refresh') headers.authorization = `Bearer ${token}`;
    const shown = [element('h3', {}, 'As a command'), element('pre', {}, curl(method, url, headers, text))];
    const options = { method, headers, body: text, credentials: 'omit', redirect: 'manual', cache: 'no-store' };
    const answer = await fetch(url, options);
    if (answer.type === 'opaqueredirect') {
      place.replaceChildren(...shown, element('h3', {}, 'Answer'), element('p', {}, 'A redirect, which this page does not follow.'));
      return;
    }
    const told = await answer.text();
    let json;
    try { json = JSON.parse(told); } catch { /* It is shown as it is. */ }
    const fields = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join('\n');
    place.replaceChildren(
      ...shown,
      element('h3', {}, 'Answer'),
      element('pre', { class: 'status' }, `${answer.status} ${answer.statusText}\n${fields}`),
      element('pre', { class: 'answer' }, json === undefined ? told || '(no body)' : JSON.stringify(json, null, 2)),
    );
    remember(operation.operationId, answer.status, json);
  } catch (error) {
    place.replaceChildren(element('p', {}, `The request could not be sent: ${error.message}`));
  }
}

/** One operation: what it is, its fields, and after sending the command and the answer. */
function operationView(specification, path, method, operation) {
  const id = operation.operationId;
  const parameters = (operation.parameters ?? []).map((parameter) => ({
    where: parameter.in,
    ...field(`${id}-${parameter.name}`, parameter.name, resolve(specification, parameter.schema), parameter.description, parameter.required),
  }));
  const content = operation.requestBody?.content?.['application/json'];
  const body = content && bodyFields(specification, id, { ...content, required: operation.requestBody.required });
  const place = element('div', { id: `${id}-answer`, 'aria-live': 'polite' });
  const form = element('form', {
    novalidate: true,
    onsubmit: (event) => {
      event.preventDefault();
      send(operation, method.toUpperCase(), path, parameters, body, place);
    },
  },
  ...parameters.map(({ view }) => view), body?.view,
  element('div', { class: 'buttons' }, element('button', { class: 'send', id: `${id}-send` }, 'Send'), body?.asJson));
  const answers = Object.entries(operation.responses).map(([status, answer]) =>
    element('tr', {}, element('td', {}, status), element('td', {}, ...paragraphs(resolve(specification, answer).description))));
  return element('details', { id },
    element('summary', {}, element('b', { class: `method ${method}` }, method.toUpperCase()), element('code', {}, path),
      element('span', {}, operation.summary ?? '')),
    element('div', { class: 'inside' }, ...paragraphs(operation.description), form, place,
      element('h3', {}, 'Answers'), element('table', {}, element('tbody', {}, ...answers))));
}

async function start() {
  const main = byId('operations');
  try {
    const answer = await fetch(new URL('openapi.json', base), { credentials: 'omit' });
    const specification = await answer.json();
    if (!answer.ok) throw new Error(specification.error_description);
    const all = Object.entries(specification.paths).flatMap(([path, item]) =>
      Object.entries(item).map(([method, operation]) => ({ path, method, operation })));
    main.replaceChildren(...specification.tags.flatMap(({ name }) => [
      element('h2', {}, name),
      ...all.filter(({ operation }) => operation.tags.includes(name))
        .map(({ path, method, operation }) => operationView(specification, path, method, operation)),
    ]));
  } catch (error) {
    main.replaceChildren(element('p', {}, `The document could not be read: ${error.message}`));
  }
}

byId('forget').addEventListener('click', () => hold('', '', ''));
byId('token').addEventListener('input', () => {
  refreshToken = '';
  byId('held').textContent = 'A token of yours. It is kept in this page alone, until the page is closed.';
});
start();
